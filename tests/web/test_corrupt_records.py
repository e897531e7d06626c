"""A bucket with one version's metadata corrupt and one model card missing: everything else is still served."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from learning_engine.registry import manifest
from learning_engine.registry.store import Store
from tests.web.conftest import Site

ROOT = "/learning-engine"


@pytest.fixture
def corrupt_bucket(site: Site, use_prefix: Callable[[str], None]) -> None:
    """Corrupts the metadata of v1.1, which is live, and deletes the model card of v1.0."""
    whole = site.loop.resources.store
    copy = Store(whole.client, whole.bucket, "corrupt")
    for stored in whole.list():
        if stored.key.startswith((manifest.ADAPTERS, manifest.LEDGER)):
            copy.put_bytes(stored.key, whole.get_bytes(stored.key))
    copy.put_bytes(manifest.adapter_key("v1.1", manifest.METADATA), b"{")
    copy.delete([manifest.adapter_key("v1.0", manifest.CARD)])
    use_prefix("corrupt")


def test_live_still_returns_the_model_name(corrupt_bucket: None, site: Site, viewer: TestClient):
    live = viewer.get(f"{ROOT}/live").json()
    entry = site.loop.resources.ledger.current()
    assert entry is not None
    assert (live["model"], live["version"], live["base_model"]) == (entry.adapter_name, "v1.1", None)


def corrupt_oldest_entry(site: Site) -> str:
    """Corrupts the oldest ledger entry of the copy and returns its key."""
    whole = site.loop.resources.store
    copy = Store(whole.client, whole.bucket, "corrupt")
    key = min(stored.key for stored in copy.list(manifest.LEDGER))
    copy.put_bytes(key, b"{")
    return key


def test_a_corrupt_old_ledger_entry_is_named_and_the_others_are_listed(
    corrupt_bucket: None, site: Site, viewer: TestClient
):
    key = corrupt_oldest_entry(site)
    page = viewer.get(f"{ROOT}/deployments").json()
    assert ([item["version"] for item in page["items"]], page["rollback_target"]) == (["v1.1"], "v1.0")
    assert page["unreadable"] == [key.rpartition("/")[2]]
    assert viewer.get(f"{ROOT}/live").json()["version"] == "v1.1"
    found = {check["kind"]: check for check in viewer.get(f"{ROOT}/health").json()["checks"]}
    assert found["ledger"]["state"] == "degraded"
    assert key in found["ledger"]["reason"]


def test_a_rollback_target_hidden_by_a_corrupt_entry_is_null(corrupt_bucket: None, site: Site, viewer: TestClient):
    """v1.0, the only candidate, is revoked."""
    store = site.loop.resources.store
    Store(store.client, store.bucket, "corrupt").put_bytes(manifest.adapter_key("v1.0", manifest.REVOKED), b"{}")
    assert corrupt_oldest_entry(site)
    page = viewer.get(f"{ROOT}/deployments").json()
    assert ([item["version"] for item in page["items"]], page["rollback_target"]) == (["v1.1"], None)


def test_a_version_with_corrupt_metadata_is_reported(corrupt_bucket: None, viewer: TestClient):
    page = viewer.get(f"{ROOT}/adapters").json()
    assert (page["unreadable"], [item["version"] for item in page["items"]]) == (["v1.1"], ["v1.2", "v1.0"])
    answer = viewer.get(f"{ROOT}/adapters/v1.1")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "Expected the metadata of v1.1, found it corrupt" in answer.json()["detail"]


def test_lineage_ends_at_the_unreadable_ancestor(corrupt_bucket: None, viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.2")
    assert (answer.status_code, answer.json()["lineage"]) == (200, ["v1.1"])


def test_a_missing_model_card_is_not_found(corrupt_bucket: None, viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.0/card")
    assert answer.status_code == 404
    assert "the model card of v1.0" in answer.json()["detail"]
