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
    whole = site.road.resources.store
    copy = Store(whole.client, whole.bucket, "damaged")
    for stored in whole.list():
        if stored.key.startswith((manifest.ADAPTERS, manifest.LEDGER)):
            copy.put_bytes(stored.key, whole.get_bytes(stored.key))
    copy.put_bytes(manifest.adapter_key("v1.1", manifest.METADATA), b"{")
    copy.delete([manifest.adapter_key("v1.0", manifest.CARD)])
    emptied("damaged")


def test_applications_still_get_the_name(damaged: None, site: Site, viewer: TestClient):
    live = viewer.get(f"{ROOT}/live").json()
    entry = site.road.resources.ledger.current()
    assert entry is not None
    assert (live["model"], live["version"], live["base_model"]) == (entry.adapter_name, "v1.1", None)


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
