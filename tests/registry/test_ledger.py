"""The ledger: what was live when, and the rollback target."""

from datetime import timedelta

import pytest

from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.work import MONDAY, chain, deployment


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


@pytest.fixture
def mock_ledger(mock_store: Store) -> Ledger:
    return Ledger(mock_store)


def deploy(ledger: Ledger, *versions: str | None, action: str = "deploy") -> None:
    for version in versions:
        number = len(ledger.entries())
        ledger.record(deployment(version, MONDAY + timedelta(hours=number), action, number))


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert (ledger.current(), ledger.entries(), ledger.rollback_target(), ledger.at(MONDAY)) == (None, [], None, None)


def test_what_was_live_when(mock_ledger: Ledger) -> None:
    deploy(mock_ledger, "v1.0", "v1.1", None)
    assert [entry.version for entry in mock_ledger.entries()] == [None, "v1.1", "v1.0"]
    current = mock_ledger.current()
    assert current is not None
    assert current.version is None
    live = [mock_ledger.at(MONDAY + timedelta(minutes=minutes)) for minutes in (-1, 0, 59, 60, 61, 999)]
    assert [entry and entry.adapter_name for entry in live] == [None, "v1.0-0", "v1.0-0", "v1.1-0", "v1.1-0", "None-0"]


def test_the_pointer_follows_the_ledger(store: Store, ledger: Ledger) -> None:
    deploy(ledger, "v1.0", "v1.1")
    newest = ledger.entries()[0].to_json()
    assert store.get_json("deployments/current.json") == newest
    for damage in (
        lambda: store.put_json("deployments/current.json", ledger.entries()[1].to_json()),
        lambda: store.delete(["deployments/current.json"]),
    ):
        damage()
        current = ledger.current()
        assert current is not None
        assert current.to_json() == newest == store.get_json("deployments/current.json")


def test_a_decision_is_recorded_once(mock_ledger: Ledger) -> None:
    first = mock_ledger.record(deployment("v1.0", MONDAY))
    assert mock_ledger.record(deployment("v1.0", MONDAY + timedelta(minutes=5))) == first
    assert len(mock_ledger.entries()) == 1
    mock_ledger.record(deployment("v1.0", MONDAY + timedelta(minutes=5), number=1))
    assert len(mock_ledger.entries()) == 2


def test_times_always_increase(mock_ledger: Ledger) -> None:
    mock_ledger.record(deployment("v1.0", MONDAY))
    slow = mock_ledger.record(deployment("v1.1", MONDAY - timedelta(hours=1), number=1))
    assert slow.at == MONDAY + timedelta(microseconds=1)
    current = mock_ledger.current()
    assert current is not None
    assert current == slow
    assert current.version == "v1.1"


def test_an_entry_is_never_overwritten(mock_store: Store, mock_ledger: Ledger) -> None:
    """Another task appends an entry with the same time, after this one has read the newest."""
    rival = deployment("v1.0", MONDAY, number=7)
    keys, looked = mock_ledger._keys, []

    def look() -> list[str]:
        found = keys()
        if not looked:
            looked.append(True)
            Ledger(mock_store).record(rival)
        return found

    mock_ledger._keys = look  # type: ignore[method-assign]
    mock_ledger.record(deployment("v1.0", MONDAY, number=8))
    assert [(e.run.run_id, e.at) for e in Ledger(mock_store).entries()] == [
        ("scheduled__8", MONDAY + timedelta(microseconds=1)),
        ("scheduled__7", MONDAY),
    ]


def test_successive_rollbacks_go_further_back(ledger: Ledger) -> None:
    deploy(ledger, "v1.0", "v1.1", "v1.2", "v1.2")
    for expected in ("v1.1", "v1.0"):
        assert ledger.rollback_target() == expected
        deploy(ledger, expected, action="rollback")
    assert ledger.rollback_target() is None
    deploy(ledger, "v1.3")
    assert ledger.rollback_target() == "v1.0"
    deploy(ledger, "v1.4")
    assert ledger.rollback_target() == "v1.3"


def test_a_rollback_skips_revoked_versions(mock_store: Store, mock_ledger: Ledger) -> None:
    registry = Registry(mock_store, settle_seconds=0)
    chain(mock_store, registry, 3)
    deploy(mock_ledger, None, "v1.0", "v1.1", "v1.2")
    registry.revoke("v1.1", by="ada", reason="wrong facts")
    assert mock_ledger.rollback_target() == "v1.0"
    registry.revoke("v1.0", by="ada", reason="wrong facts")
    assert mock_ledger.rollback_target() is None
