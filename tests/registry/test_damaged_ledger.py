"""A ledger whose entries or pointer are lost, corrupt or ahead of their time."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import Deployment
from learning_engine.registry import manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.test_store import corrupt
from tests.registry.work import MONDAY, chain, deployment


def keys(store: Store) -> list[str]:
    return [stored.key for stored in store.list(manifest.LEDGER)]


def pointer(store: Store) -> Deployment:
    return store.get_record(manifest.CURRENT, Deployment)


def history(store: Store, *versions: str, last: datetime = MONDAY) -> list[Deployment]:
    """Deploy the versions an hour apart, the last one at `last`; return the entries, oldest first."""
    made: list[Deployment] = []
    for number, version in enumerate(versions):
        entry = deployment(version, last - timedelta(hours=len(versions) - 1 - number), number=number)
        before = made[-1] if made else None
        entry = dataclasses.replace(
            entry, previous=before and before.version, previous_adapter_name=before and before.adapter_name
        )
        made.append(Ledger(store).record(entry))
    return made


def test_a_lost_newest_entry_still_counts_as_live(store: Store) -> None:
    made = history(store, "v1.0", "v1.1", "v1.2")
    store.delete([keys(store)[-1]])
    ledger = Ledger(store)
    assert ledger.newest() == made[-1]
    assert (ledger.rollback_target(), ledger.at(MONDAY)) == ("v1.1", made[-1])
    assert [entry.version for entry in ledger.entries()] == ["v1.2", "v1.1", "v1.0"]
    assert len(keys(store)) == 2, "reading writes nothing"


def test_a_lost_newest_entry_is_restored_and_logged(mock_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    history(mock_store, "v1.0", "v1.1")
    complete = keys(mock_store)
    mock_store.delete([complete[-1]])
    live = Ledger(mock_store).current()
    assert live == pointer(mock_store)
    assert live.version == "v1.1"
    assert keys(mock_store) == complete
    assert "ledger.entry_restored" in caplog.text


def test_a_new_decision_restores_a_lost_entry_first(mock_store: Store) -> None:
    history(mock_store, "v1.0", "v1.1")
    complete = keys(mock_store)
    mock_store.delete([complete[-1]])
    Ledger(mock_store).record(deployment("v1.2", MONDAY + timedelta(hours=1), number=2))
    assert keys(mock_store)[:-1] == complete
    assert pointer(mock_store).version == "v1.2"


def test_if_all_entries_are_lost_the_newest_is_restored(mock_store: Store) -> None:
    made = history(mock_store, "v1.0", "v1.1")
    mock_store.delete(keys(mock_store))
    assert Ledger(mock_store).current() == made[-1]
    assert len(keys(mock_store)) == 1


def test_a_pointer_that_differs_from_the_newest_entry_is_rewritten(mock_store: Store) -> None:
    """It has the newest entry's time and a matching digest."""
    (made,) = history(mock_store, "v1.0")
    mock_store.put_json(manifest.CURRENT, dataclasses.replace(made, adapter_name="another").to_json())
    assert list(Ledger(mock_store).problems()) == [manifest.CURRENT]
    assert Ledger(mock_store).current() == made == pointer(mock_store)
    assert Ledger(mock_store).problems() == {}


def test_an_entry_with_a_future_time(mock_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported while its time is in the future. Once it is deleted, the pointer follows the ledger again."""
    (made,) = history(mock_store, "v1.0")
    ahead = datetime.now(UTC) + timedelta(hours=3)
    future = Ledger(mock_store).record(dataclasses.replace(deployment("v1.1", ahead, number=1), previous="v1.0"))
    key = manifest.ledger_key(future.at, "v1.1")
    assert Ledger(mock_store).current() == future
    assert "ledger.in_the_future" in caplog.text
    problems = Ledger(mock_store).problems()
    assert "in the future" in problems[key]
    mock_store.delete([key])
    assert Ledger(mock_store).current() == made == pointer(mock_store)
    assert Ledger(mock_store).problems() == {}


def corrupt_entry(store: Store, number: int) -> str:
    """Corrupt the entry of that index, oldest first; return its key."""
    key = keys(store)[number]
    corrupt(store, key, b"{}")
    return key


@pytest.mark.parametrize("number", [0, 1])
def test_a_corrupt_entry_that_a_rollback_does_not_need_does_not_block_it(mock_store: Store, number: int) -> None:
    history(mock_store, "v1.0", "v1.1", "v1.2")
    corrupt_entry(mock_store, number)
    assert Ledger(mock_store).rollback_target() == "v1.1"


def test_a_corrupt_entry_that_a_rollback_needs_is_named(mock_store: Store) -> None:
    """v1.1 is revoked, so the rollback target depends on whether its entry was itself a rollback."""
    registry = Registry(mock_store, settle_seconds=0)
    chain(mock_store, registry, 2)
    history(mock_store, "v1.0", "v1.1", "v1.2")
    registry.revoke("v1.1", by="ada", reason="wrong facts")
    assert Ledger(mock_store).rollback_target() == "v1.0"
    key = corrupt_entry(mock_store, 1)
    with pytest.raises(IntegrityError, match=f"{key}: expected sha256 .* by name") as caught:
        Ledger(mock_store).rollback_target()
    assert not caught.value.retryable


def test_corrupt_entries_are_left_out_and_named(mock_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    history(mock_store, "v1.0", "v1.1", "v1.2")
    key = corrupt_entry(mock_store, 1)
    assert [entry.version for entry in Ledger(mock_store).entries()] == ["v1.2", "v1.0"]
    assert Ledger(mock_store).history()[1] == [key]
    assert key in caplog.text
    assert list(Ledger(mock_store).problems()) == [key]


def test_a_corrupt_newest_entry_is_an_error(mock_store: Store) -> None:
    history(mock_store, "v1.0", "v1.1")
    key = corrupt_entry(mock_store, 1)
    for read in (Ledger(mock_store).newest, Ledger(mock_store).entries, Ledger(mock_store).rollback_target):
        with pytest.raises(IntegrityError, match=f"{key}: expected sha256"):
            read()
    assert key in Ledger(mock_store).problems()


def test_the_problems_of_a_ledger(mock_store: Store) -> None:
    assert Ledger(mock_store).problems() == {}
    history(mock_store, "v1.0", "v1.1", "v1.2")
    first, second, third = keys(mock_store)
    mock_store.delete([second])
    assert list(Ledger(mock_store).problems()) == [third]
    assert "an entry between them is lost" in Ledger(mock_store).problems()[third]
    mock_store.delete([third])
    assert list(Ledger(mock_store).problems()) == [third]
    assert "missing" in Ledger(mock_store).problems()[third]
    mock_store.put_json(manifest.CURRENT, mock_store.get_json(first))
    assert Ledger(mock_store).problems() == {}
    mock_store.delete([manifest.CURRENT])
    assert list(Ledger(mock_store).problems()) == [manifest.CURRENT]


def test_a_pointer_that_is_about_to_move_is_no_problem(mock_store: Store) -> None:
    """Between the two writes of a decision."""
    history(mock_store, "v1.0")
    now = datetime.now(UTC)
    entry = dataclasses.replace(deployment("v1.1", now, number=1), previous="v1.0")
    mock_store.put_json(manifest.ledger_key(now, "v1.1"), entry.to_json())
    assert Ledger(mock_store).problems(now + timedelta(seconds=1)) == {}
    assert list(Ledger(mock_store).problems(now + timedelta(hours=1))) == [manifest.CURRENT]


def test_objects_of_other_programs_next_to_the_entries_are_ignored(mock_store: Store) -> None:
    history(mock_store, "v1.0", "v1.1")
    for key in (manifest.LEDGER, f"{manifest.LEDGER}notes.txt", f"{manifest.LEDGER}backup/old.json"):
        mock_store.client.put_object(Bucket=mock_store.bucket, Key=mock_store.prefix + key, Body=b"")
    entries, unreadable = Ledger(mock_store).history()
    assert ([entry.version for entry in entries], unreadable) == (["v1.1", "v1.0"], [])
    assert Ledger(mock_store).problems(MONDAY) == {}
