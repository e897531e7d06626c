"""What every route refuses, and what every answer says of itself."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.web.conftest import TOKEN, Site

ROOT = "/learning-engine"
BODIES: dict[str, dict[str, Any]] = {
    "train": {},
    "fisher/calculate": {"version": "v1.0"},
    "adapters/v1.0/deploy": {},
    "rollback": {},
}
UNFIT = ["\0", "\x1b", "\x7f", "\x9f", "\ud800"]


def post(client: TestClient, path: str, body: Any) -> Any:
    """With lone surrogates as they are escaped in JSON, which no client sends as UTF-8."""
    headers = {"Content-Type": "application/json"}
    return client.post(f"{ROOT}/{path}", content=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("unfit", UNFIT, ids=ascii)
def test_no_text_of_a_body_holds_what_airflow_s_database_cannot(admin: TestClient, path: str, unfit: str):
    answer = post(admin, path, BODIES[path] | {"note": f"why{unfit}not"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["loc"] == ["body", "note"]
    assert "expected text without control characters" in answer.json()["detail"]


@pytest.mark.parametrize("unfit", UNFIT, ids=ascii)
def test_nor_does_the_name_of_a_field_or_what_is_nested(admin: TestClient, unfit: str):
    for body in ({f"no{unfit}te": 1}, {"window": {"start": unfit}}, [unfit], unfit):
        answer = post(admin, "train", body)
        assert answer.status_code == 422, answer.text
        assert "expected text without control characters" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "adapters?base_model=a%00b",
        "training/status?run_id=a%00b",
        "training/status?unknown=%1b",
        "adapters/v1.0%00",
        "deployments/at?time=%00",
    ],
)
def test_nor_does_a_parameter(admin: TestClient, path: str):
    answer = admin.get(f"{ROOT}/{path}")
    assert answer.status_code == 422, answer.text
    assert "expected text without control characters" in answer.json()["detail"]


def test_lines_and_tabs_are_text(viewer: TestClient):
    # Not allowed to, but understood.
    assert post(viewer, "train", {"note": "why\n\tnot\r\n"}).status_code == 403


def test_a_body_that_is_nested_without_end_is_refused(admin: TestClient):
    answer = admin.post(f"{ROOT}/train", content=b"[" * 100_000, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text


PRIVATE = ("health", "adapters", "adapters/v1.0/card", "adapters/v1.0/archive", "me", "metrics", "openapi.json", "none")


@pytest.mark.parametrize("path", PRIVATE)
def test_what_is_private_is_kept_by_nobody(viewer: TestClient, nobody: TestClient, path: str):
    for client in (viewer, nobody):
        headers = client.get(f"{ROOT}/{path}").headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_an_error_that_nobody_foresaw_has_them_too(viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("learning_engine.web.storage.published", None)
    answer = viewer.get(f"{ROOT}/storage")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (500, "no-store")


def test_the_card_runs_and_loads_nothing(viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.0/card", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert "Accept" in answer.headers["Vary"]


def test_the_live_name_is_kept_for_a_moment_by_whoever_asked(site: Site):
    headers = site.client(Authorization=f"Bearer {TOKEN}").get(f"{ROOT}/live").headers
    assert (headers["Cache-Control"], headers["Age"]) == ("private, max-age=5", "0")
    assert "Authorization" in headers["Vary"]


def test_the_page_keeps_its_own(nobody: TestClient):
    headers = nobody.get(f"{ROOT}/page/").headers
    assert (headers["Cache-Control"], headers.get_list("Content-Security-Policy")) == (
        "no-cache",
        [headers["Content-Security-Policy"]],
    )
    assert "default-src 'self'" in headers["Content-Security-Policy"]
