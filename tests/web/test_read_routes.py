"""The routes that every signed-in user may read: versions, deployment history, live version, storage."""

import hashlib
import threading
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.registry.registry import Registry
from tests.web.conftest import TOKEN, Site

ROOT = "/learning-engine"
READ = (
    "live",
    "health",
    "adapters",
    "adapters/v1.0",
    "adapters/v1.0/card",
    "adapters/v1.0/archive",
    "deployments",
    "deployments/at?time=2026-11-01T00:00:00Z",
    "training/status",
    "preflight",
    "storage",
    "metrics",
    "me",
    "openapi.json",
)


@pytest.mark.parametrize("path", READ)
def test_anonymous_reads_are_rejected(anonymous: TestClient, path: str):
    answer = anonymous.get(f"{ROOT}/{path}")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "POST /auth/token" in answer.json()["detail"]


@pytest.mark.parametrize("path", READ)
def test_a_viewer_may_read_everything(viewer: TestClient, path: str):
    answer = viewer.get(f"{ROOT}/{path}")
    # No scheduler runs in these tests.
    assert answer.status_code == (503 if path == "health" else 200), answer.text


def test_versions_are_listed_newest_first(viewer: TestClient):
    page = viewer.get(f"{ROOT}/adapters").json()
    assert [item["version"] for item in page["items"]] == ["v1.2", "v1.1", "v1.0"]
    assert [(item["accepted"], item["live"]) for item in page["items"]] == [(False, False), (True, True), (True, False)]
    assert page["items"][0]["failed_rules"] == ["drift"]
    assert page["total"] == 3


def test_versions_are_paged_and_filtered(viewer: TestClient):
    def names(**params: object) -> list[str]:
        return [item["version"] for item in viewer.get(f"{ROOT}/adapters", params=params).json()["items"]]

    assert names(limit=1, offset=1) == ["v1.1"]
    assert names(accepted=True) == ["v1.1", "v1.0"]
    assert names(accepted=False) == ["v1.2"]
    assert names(revoked=True) == []
    assert names(base_model="another") == []


def test_versions_are_read_concurrently(viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    together, get = threading.Barrier(3, timeout=10), Registry.get

    def meet(registry: Registry, version: str) -> AdapterVersion:
        together.wait()
        return get(registry, version)

    monkeypatch.setattr(Registry, "get", meet)
    page = viewer.get(f"{ROOT}/adapters").json()
    assert [item["version"] for item in page["items"]] == ["v1.2", "v1.1", "v1.0"]


def test_version_detail(site: Site, viewer: TestClient):
    found = viewer.get(f"{ROOT}/adapters/v1.1").json()
    version = site.loop.resources.registry.get("v1.1")
    assert found["lineage"] == ["v1.0"]
    assert found["children"] == ["v1.2"]
    assert found["digests"][version.uri] == version.sha256
    assert [entry["version"] for entry in found["deployments"]] == ["v1.1"]
    assert found["metadata"]["report"]["rules"][0]["why"]
    assert found["metadata"]["training"]["curve"]


def test_model_card_as_markdown_and_html(viewer: TestClient):
    text = viewer.get(f"{ROOT}/adapters/v1.1/card")
    assert text.headers["content-type"].startswith("text/markdown")
    assert "# v1.1 · accepted" in text.text
    html = viewer.get(f"{ROOT}/adapters/v1.1/card", headers={"Accept": "text/html"})
    assert "<h1>v1.1 · accepted</h1>" in html.text
    assert "<table>" in html.text


def test_the_archive_is_the_published_one(site: Site, viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.1/archive")
    version = site.loop.resources.registry.get("v1.1")
    assert hashlib.sha256(answer.content).hexdigest() == version.sha256 == answer.headers["x-checksum-sha256"]
    assert answer.headers["content-type"] == "application/gzip"


@pytest.mark.parametrize("path", ["adapters/v9.9", "adapters/v9.9/card", "adapters/v9.9/archive"])
def test_an_unknown_version_is_not_found(viewer: TestClient, path: str):
    answer = viewer.get(f"{ROOT}/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "no v9.9" in answer.json()["detail"]


def test_the_version_live_at_a_time(site: Site, viewer: TestClient):
    second, first = site.loop.resources.ledger.entries()
    moments = {
        first.at - timedelta(seconds=1): None,
        first.at: "v1.0",
        second.at - timedelta(microseconds=1): "v1.0",
        second.at + timedelta(days=1): "v1.1",
    }
    for moment, version in moments.items():
        found = viewer.get(f"{ROOT}/deployments/at", params={"time": moment.isoformat()}).json()
        assert found["version"] == version


def test_a_time_without_a_zone_is_rejected(viewer: TestClient):
    answer = viewer.get(f"{ROOT}/deployments/at", params={"time": "2026-11-01T00:00:00"})
    assert answer.status_code == 422
    assert "timezone" in answer.json()["detail"]


@pytest.mark.parametrize("far", ["0001-01-01T00:00:00+14:00", "1999-12-31T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_times_outside_the_supported_years_are_rejected(admin: TestClient, far: str):
    others = {"start": "2026-10-05T02:00:00Z", "end": "2026-10-12T02:00:00Z"}
    answers = [admin.get(f"{ROOT}/deployments/at", params={"time": far})]
    for name in others:
        window = others | {name: far}
        answers.append(admin.get(f"{ROOT}/preflight", params=window))
        answers.append(admin.post(f"{ROOT}/train", json={"window": window}))
        answers.append(admin.post(f"{ROOT}/fisher/calculate", json={"version": "v1.0", "window": window}))
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert "expected a time from 2000 to 8999" in answer.json()["detail"]


def test_the_static_token_reads_live_and_metrics(site: Site):
    client = site.client(Authorization=f"Bearer {TOKEN}")
    found = client.get(f"{ROOT}/live").json()
    live = site.loop.resources.ledger.current()
    assert live is not None
    assert (found["model"], found["version"], found["proven"]) == (live.adapter_name, "v1.1", True)
    assert client.get(f"{ROOT}/metrics").status_code == 200


@pytest.mark.parametrize("path", [path for path in READ if path not in ("live", "metrics")])
def test_the_static_token_reads_nothing_else(site: Site, path: str):
    assert site.client(Authorization=f"Bearer {TOKEN}").get(f"{ROOT}/{path}").status_code == 401


def test_a_wrong_token_is_rejected(site: Site):
    assert site.client(Authorization=f"Bearer {TOKEN}x").get(f"{ROOT}/live").status_code == 401


def test_storage_adds_up(site: Site, viewer: TestClient):
    found = viewer.get(f"{ROOT}/storage").json()
    stored = list(site.loop.resources.store.list())
    assert (found["objects"], found["bytes"]) == (len(stored), sum(one.size for one in stored))
    assert sum(area["bytes"] for area in found["areas"]) == found["bytes"]
    assert (found["versions"], found["accepted"], found["rejected"]) == (3, 2, 1)


def test_reading_writes_nothing(site: Site, viewer: TestClient):
    """Not even an outdated pointer, which the next deployment repairs."""
    store = site.loop.resources.store
    store.delete([manifest.CURRENT])
    before = {stored.key: stored.modified for stored in store.list()}
    for path in READ:
        viewer.get(f"{ROOT}/{path}")
    assert {stored.key: stored.modified for stored in store.list()} == before
    assert site.loop.resources.ledger.current() is not None


def test_an_empty_bucket_is_no_error(viewer: TestClient, site: Site, use_prefix):
    use_prefix("empty")
    assert viewer.get(f"{ROOT}/adapters").json()["items"] == []
    live = viewer.get(f"{ROOT}/live").json()
    assert (live["version"], live["model"]) == (None, site.loop.resources.settings.model.base)
    assert viewer.get(f"{ROOT}/deployments").json()["items"] == []
    assert viewer.get(f"{ROOT}/storage").json()["objects"] == 0
