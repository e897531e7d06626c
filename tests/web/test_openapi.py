"""The API as its own description has it: no request ends in a 5xx, and without a login nothing is read."""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from include.reference import api
from tests.web.conftest import Site

ROOT = "/learning-engine"
# What is made up within a test of one operation.
EXAMPLES = 15


@pytest.fixture
def document(site: Site) -> Any:
    return site.client("admin").get(f"{ROOT}/openapi.json").json()


def test_whatever_is_sent_the_answer_is_one_that_is_described(site: Site, admin: TestClient):
    headers = {"Authorization": admin.headers["Authorization"]}
    schema = schemathesis.openapi.from_asgi(f"{ROOT}/openapi.json", site.app, headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        holds(operation, headers)
    assert len(operations) > 15


def holds(operation: Any, headers: dict[str, str]) -> None:
    # That a window starts before it ends, and is over, no schema can say.
    excluded = [positive_data_acceptance]
    if operation.path == "/health":
        excluded.append(not_a_server_error)  # no scheduler runs beside these tests, which it tells with a 503

    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def with_any(case: Any) -> None:
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    with_any()


def test_nothing_is_open(nobody: TestClient, document: Any):
    tried = 0
    for path, operations in document["paths"].items():
        for method in operations:
            answer = nobody.request(method, ROOT + path.replace("{version}", "v1.0"), json={})
            assert answer.status_code == 401, (method, path)
            tried += 1
    assert tried > 15


def test_every_operation_says_what_it_is_and_how_it_fails(document: Any):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["401"]["content"], (method, path)


def test_the_reference_in_docs_is_this_description(document: Any):
    assert api.page(document) == api.PAGE.read_text(encoding="utf-8"), "run `make docs`"
