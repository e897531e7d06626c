"""The API as its own description has it: no request ends in a 5xx, and without a login nothing is read."""

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from tests.web.conftest import Site

ROOT = "/learning-engine"
# What is made up within a test of one operation.
EXAMPLES = 15


@pytest.fixture
def document(site: Site) -> Any:
    return site.client("admin").get(f"{ROOT}/openapi.json").json()


@pytest.fixture
def described(site: Site, document: Any) -> Any:
    schema = schemathesis.openapi.from_dict(document)
    schema.app = site.app
    schema.config.update(base_url="http://airflow.test/learning-engine")
    return schema


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_whatever_is_sent_the_answer_is_one_that_is_described(case: Any, admin: TestClient):
    # No scheduler runs beside these tests, which health tells with the 503 that it describes.
    excluded = [not_a_server_error] if case.path == "/health" else []
    case.call_and_validate(headers={"Authorization": admin.headers["Authorization"]}, excluded_checks=excluded)


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
