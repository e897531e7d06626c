"""The API conforms to its OpenAPI document: no request ends in a 5xx, and every route needs a login."""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from include.reference import api
from tests.web.conftest import Site

ROOT = "/learning-engine"


@pytest.fixture
def document(site: Site) -> Any:
    return site.client("admin").get(f"{ROOT}/openapi.json").json()


@pytest.mark.hypothesis  # for `make test-stack`, which tries more examples
def test_every_response_matches_the_document(site: Site, admin: TestClient):
    headers = {"Authorization": admin.headers["Authorization"]}
    schema = schemathesis.openapi.from_asgi(f"{ROOT}/openapi.json", site.app, headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        check_responses(operation, headers)
    assert len(operations) > 15


def check_responses(operation: Any, headers: dict[str, str]) -> None:
    # A schema cannot express that a window starts before it ends and lies in the past.
    excluded = [positive_data_acceptance]
    if operation.path == "/health":
        excluded.append(not_a_server_error)  # no scheduler runs in these tests, which it reports with a 503

    # The profile's examples, divided among the operations.
    examples = settings().max_examples // 20

    @given(case=operation.as_strategy())
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def with_any(case: Any) -> None:
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    with_any()


def test_every_route_needs_a_login(anonymous: TestClient, document: Any):
    tried = 0
    for path, operations in document["paths"].items():
        for method in operations:
            answer = anonymous.request(method, ROOT + path.replace("{version}", "v1.0"), json={})
            assert answer.status_code == 401, (method, path)
            tried += 1
    assert tried > 15


def test_every_operation_has_a_description_and_errors(document: Any):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["401"]["content"], (method, path)


def test_docs_api_is_up_to_date(document: Any):
    assert api.page(document) == api.PAGE.read_text(encoding="utf-8"), "run `make docs`"
