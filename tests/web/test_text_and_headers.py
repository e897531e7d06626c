"""Text that every route rejects, and headers that every response has."""

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
FORBIDDEN = ["\0", "\x1b", "\x7f", "\x9f", "\ud800"]


def post(client: TestClient, path: str, body: Any) -> Any:
    """Posts `body` as JSON with lone surrogates escaped, since no client sends them as UTF-8."""
    headers = {"Content-Type": "application/json"}
    return client.post(f"{ROOT}/{path}", content=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_control_characters_in_a_body_are_rejected(admin: TestClient, path: str, character: str):
    answer = post(admin, path, BODIES[path] | {"note": f"why{character}not"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["loc"] == ["body", "note"]
    assert "expected text without control characters" in answer.json()["detail"]


@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_control_characters_in_field_names_and_nested_values_are_rejected(admin: TestClient, character: str):
    for body in ({f"no{character}te": 1}, {"window": {"start": character}}, [character], character):
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
def test_control_characters_in_parameters_are_rejected(admin: TestClient, path: str):
    answer = admin.get(f"{ROOT}/{path}")
    assert answer.status_code == 422, answer.text
    assert "expected text without control characters" in answer.json()["detail"]


def test_line_breaks_and_tabs_are_allowed(viewer: TestClient):
    # 403, not 422: the text is accepted, only the permission is missing.
    assert post(viewer, "train", {"note": "why\n\tnot\r\n"}).status_code == 403


def test_a_deeply_nested_body_is_rejected(admin: TestClient):
    for kind in ("application/json", "text/plain"):
        answer = admin.post(f"{ROOT}/train", content=b"[" * 100_000, headers={"Content-Type": kind})
        assert 400 <= answer.status_code < 500, answer.text


PRIVATE = ("health", "adapters", "adapters/v1.0/card", "adapters/v1.0/archive", "me", "metrics", "openapi.json", "none")


@pytest.mark.parametrize("path", PRIVATE)
def test_private_responses_are_not_cached(viewer: TestClient, anonymous: TestClient, path: str):
    for client in (viewer, anonymous):
        headers = client.get(f"{ROOT}/{path}").headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_unexpected_errors_are_not_cached(viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("learning_engine.web.storage.published", None)
    answer = viewer.get(f"{ROOT}/storage")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (500, "no-store")


def test_the_html_card_has_a_strict_policy(viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.0/card", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert "Accept" in answer.headers["Vary"]


def test_live_is_cached_privately_for_seconds(site: Site):
    headers = site.client(Authorization=f"Bearer {TOKEN}").get(f"{ROOT}/live").headers
    assert (headers["Cache-Control"], headers["Age"]) == ("private, max-age=5", "0")
    assert "Authorization" in headers["Vary"]


def test_the_page_sets_its_own_headers(anonymous: TestClient):
    headers = anonymous.get(f"{ROOT}/page/").headers
    assert (headers["Cache-Control"], headers.get_list("Content-Security-Policy")) == (
        "no-cache",
        [headers["Content-Security-Policy"]],
    )
    assert "default-src 'self'" in headers["Content-Security-Policy"]
