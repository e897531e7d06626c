"""How long verify waits before it unloads: never longer than `serving.drain_seconds`, whatever the ledger says."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.records.contracts import Deployment
from learning_engine.registry import manifest
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps.resources import Resources
from tests.faults.test_corrupt_records import must_not_open
from tests.object_stores import new_bucket
from tests.registry.test_store import corrupt
from tests.registry.work import deployment

DRAIN = 100


@pytest.fixture
def resources(moto: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Resources:
    monkeypatch.setenv("LEARNING_ENGINE__SERVING__DRAIN_SECONDS", str(DRAIN))
    store = new_bucket(moto)
    return Resources(config.load(), lambda: store, must_not_open, must_not_open)


def live(resources: Resources, *ages: timedelta) -> Deployment:
    """Deploy v1.0, v1.1 and so on, each at the given age; return the newest entry."""
    entry: Deployment | None = None
    for number, age in enumerate(ages):
        made = deployment(f"v1.{number}", datetime.now(UTC) - age, number=number)
        previous = {"previous": entry.version, "previous_adapter_name": entry.adapter_name} if entry else {}
        entry = resources.ledger.record(dataclasses.replace(made, **previous))
    assert entry is not None
    return entry


def seconds(resources: Resources, newest: Deployment) -> float:
    return deploy_step._drain_seconds(resources, {str(newest.adapter_name), str(newest.previous_adapter_name)})


def test_an_adapter_replaced_long_ago_needs_no_drain(resources: Resources) -> None:
    newest = live(resources, timedelta(weeks=2), timedelta(weeks=1), timedelta(0))
    assert seconds(resources, newest) == 0


def test_an_adapter_replaced_just_now_is_drained(resources: Resources) -> None:
    newest = live(resources, timedelta(weeks=2), timedelta(seconds=30), timedelta(0))
    assert 60 < seconds(resources, newest) <= 70


def test_an_entry_with_a_future_time_does_not_extend_the_drain(resources: Resources) -> None:
    newest = live(resources, timedelta(weeks=2), timedelta(hours=-3), timedelta(0))
    assert newest.at > datetime.now(UTC) + timedelta(hours=2)
    assert seconds(resources, newest) == DRAIN


@pytest.mark.parametrize(("age", "expected"), [(timedelta(weeks=1), 0), (timedelta(seconds=30), DRAIN - 30)])
def test_a_corrupt_entry_counts_as_a_replacement(resources: Resources, age: timedelta, expected: int) -> None:
    newest = live(resources, timedelta(weeks=2), age, timedelta(0))
    _, damaged, _ = sorted(stored.key for stored in resources.store.list(manifest.LEDGER))
    corrupt(resources.store, damaged, b"{}")
    assert expected - 10 < seconds(dataclasses.replace(resources), newest) <= expected
