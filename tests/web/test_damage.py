"""A bucket in which one version's metadata and one model card are damaged: what can still be told is told."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from learning_engine.registry import manifest
from learning_engine.registry.store import Store
from tests.web.conftest import Site

ROOT = "/learning-engine"


@pytest.fixture
def damaged(site: Site, emptied: Callable[[str], None]) -> None:
    """The metadata of v1.1, which is live, and the card of v1.0."""
    whole = site.loop.resources.store
    copy = Store(whole.client, whole.bucket, "damaged")
    for stored in whole.list():
        if stored.key.startswith((manifest.ADAPTERS, manifest.LEDGER)):
            copy.put_bytes(stored.key, whole.get_bytes(stored.key))
    copy.put_bytes(manifest.adapter_key("v1.1", manifest.METADATA), b"{")
    copy.delete([manifest.adapter_key("v1.0", manifest.CARD)])
    emptied("damaged")


def test_applications_still_get_the_name(damaged: None, site: Site, viewer: TestClient):
    live = viewer.get(f"{ROOT}/live").json()
    entry = site.loop.resources.ledger.current()
    assert entry is not None
    assert (live["model"], live["version"], live["base_model"]) == (entry.adapter_name, "v1.1", None)


def old_entry(site: Site) -> str:
    """The key of the copy's oldest ledger entry, which is damaged by this call."""
    whole = site.loop.resources.store
    copy = Store(whole.client, whole.bucket, "damaged")
    key = min(stored.key for stored in copy.list(manifest.LEDGER))
    copy.put_bytes(key, b"{")
    return key


def test_an_old_entry_of_the_ledger_that_is_damaged_is_named_and_keeps_nobody_from_the_others(
    damaged: None, site: Site, viewer: TestClient
):
    key = old_entry(site)
    page = viewer.get(f"{ROOT}/deployments").json()
    assert ([item["version"] for item in page["items"]], page["rollback_target"]) == (["v1.1"], "v1.0")
    assert page["unreadable"] == [key.rpartition("/")[2]]
    assert viewer.get(f"{ROOT}/live").json()["version"] == "v1.1"
    found = {check["kind"]: check for check in viewer.get(f"{ROOT}/health").json()["checks"]}
    assert found["ledger"]["state"] == "degraded"
    assert key in found["ledger"]["reason"]


def test_a_way_back_that_a_damaged_entry_hides_is_not_told(damaged: None, site: Site, viewer: TestClient):
    """v1.0, to which it would lead, is revoked."""
    store = site.loop.resources.store
    Store(store.client, store.bucket, "damaged").put_bytes(manifest.adapter_key("v1.0", manifest.REVOKED), b"{}")
    assert old_entry(site)
    page = viewer.get(f"{ROOT}/deployments").json()
    assert ([item["version"] for item in page["items"]], page["rollback_target"]) == (["v1.1"], None)


def test_the_version_is_listed_and_told_as_damaged(damaged: None, viewer: TestClient):
    page = viewer.get(f"{ROOT}/adapters").json()
    assert (page["unreadable"], [item["version"] for item in page["items"]]) == (["v1.1"], ["v1.2", "v1.0"])
    answer = viewer.get(f"{ROOT}/adapters/v1.1")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "Expected the metadata of v1.1, found it damaged" in answer.json()["detail"]


def test_one_that_continues_it_is_told_with_the_line_as_far_as_it_is_known(damaged: None, viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.2")
    assert (answer.status_code, answer.json()["lineage"]) == (200, ["v1.1"])


def test_a_card_that_is_lost_is_not_found(damaged: None, viewer: TestClient):
    answer = viewer.get(f"{ROOT}/adapters/v1.0/card")
    assert answer.status_code == 404
    assert "the model card of v1.0" in answer.json()["detail"]
