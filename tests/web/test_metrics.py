"""/metrics as Prometheus reads it: every known value is exported, every unknown one is absent."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import learning_engine
from learning_engine import config
from learning_engine.registry import manifest
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store, Stored
from learning_engine.web import inventory, metrics
from tests.object_stores import new_bucket
from tests.registry.work import stage, week
from tests.web.populated_bucket import (
    DURATIONS,
    Samples,
    labelled,
    populate,
    progress,
    put_progress,
    read,
    resources_of,
    scraped,
    value,
)


def at(store: Store, now: datetime) -> Samples:
    registry = CollectorRegistry()
    registry.register(metrics.BucketCollector(resources_of(store), {}, now=now))
    return read(generate_latest(registry))


def time_since(moment: float | None) -> float:
    assert moment is not None
    return datetime.now(UTC).timestamp() - moment


@pytest.fixture(scope="module", params=["swift", "moto"])
def bucket(request: pytest.FixtureRequest) -> Store:
    """For tests that only read."""
    return populate(new_bucket(request.getfixturevalue(request.param)))


@pytest.fixture
def mock_bucket(mock_store: Store) -> Store:
    return populate(mock_store)


def test_metrics_of_the_live_version(bucket: Store) -> None:
    found = scraped(bucket)
    assert value(found, "info", version=learning_engine.__version__, base_model=config.load().model.base) == 1
    assert labelled(found, "live") == {("v1.0-0",): 1}
    assert value(found, "live", version="v1.0", adapter="v1.0-0") == 1
    assert value(found, "live_since_seconds") == datetime(2026, 10, 3, tzinfo=UTC).timestamp()
    assert value(found, "live_archive_present") == 1
    assert labelled(found, "swap_seconds") == {("http://max-0:8000",): 1.5, ("http://max-1:8000",): 2.5}
    assert labelled(found, "deployments_total") == {("deploy",): 2, ("rollback",): 1}


def test_metrics_of_all_versions_and_of_the_gate(bucket: Store) -> None:
    found = scraped(bucket)
    verdicts = {text: value(found, "versions", verdict=text) for text in ("accepted", "rejected", "revoked")}
    assert verdicts == {"accepted": 1, "rejected": 1, "revoked": 1}
    # `kept` is not a rule of this package, so its label is `other`.
    assert labelled(found, "gate_verdicts_total") == {("learned", "passed"): 3, ("other", "failed"): 3}
    assert value(found, "newest_accepted", version="v1.2") == 0
    assert labelled(found, "newest_rule_passed") == {("learned",): 1, ("other",): 0}


def test_metrics_of_the_newest_version(bucket: Store) -> None:
    found = scraped(bucket)
    versions = {dict(labels)["version"] for (name, labels) in found if name.startswith("newest_")}
    assert versions == {"v1.2"}
    expected = {
        "newest_window_end_seconds": week(2).end.timestamp(),
        "newest_task_loss": 1.2,
        "newest_ewc_loss": 0.03,
        "newest_ewc_lambda": 300.0,
        "newest_retained_ratio": 0.5,
        "newest_base_ratio": 0.875,
        "newest_users": 40,
        "newest_tokens": 9000,
        "newest_training_seconds": 61.0,
        "newest_tokens_per_second": 150.0,
        "newest_peak_memory_bytes": 60 * 2**30,
        "newest_gpu_memory_bytes": 72 * 2**30,
        "newest_gpu_utilisation_ratio": 0.75,
    }
    assert {name: value(found, name, version="v1.2") for name in expected} == expected
    assert labelled(found, "newest_heldout_loss") == {("candidate",): 1.1, ("parent",): 1.4, ("base",): 2.2}
    assert labelled(found, "newest_drift_nats") == {("parent",): 0.1, ("base",): 0.4}
    assert labelled(found, "newest_kl_nats") == {("measured",): 0.375}
    assert labelled(found, "newest_samples") == {("up",): 250, ("down",): 50}
    dropped = {("no_answer",): 3, ("special_token",): 2, ("too_long",): 1, ("other",): 4}
    assert labelled(found, "newest_dropped") == dropped
    assert labelled(found, "newest_quarantined") == {("burst",): 5}
    assert time_since(value(found, "newest_created_seconds", version="v1.2")) < 600


def test_unmeasured_values_are_absent(mock_store: Store) -> None:
    registry = Registry(mock_store, settle_seconds=0)
    work = stage(mock_store, "first", week(0))
    dataset = dataclasses.replace(work.draft.dataset, users=None, dropped={})
    report = dataclasses.replace(
        work.draft.report,
        loss=None,
        loss_parent=None,
        retained={},
        drift_base=None,
        drift_parent=float("nan"),
        rules=[],
    )
    draft = dataclasses.replace(work.draft, dataset=dataset, report=report)
    dataclasses.replace(work, draft=draft).publish(registry)
    # A NaN can only come from a record written by another program.
    found = scraped(mock_store)
    assert labelled(found, "newest_heldout_loss") == {("base",): 2.2}
    absent = ("users", "retained_ratio", "drift_nats", "kl_nats", "gpu_memory_bytes", "gpu_utilisation_ratio")
    for name in (*absent, "rule_passed", "quarantined"):
        assert labelled(found, f"newest_{name}") == {}, name
    assert labelled(found, "newest_dropped") == {("too_long",): 2}
    assert not {name for name, _ in found if name.startswith(("live", "swap", "step_", "training_"))} - {
        "training_running"
    }


def test_an_empty_bucket_has_only_metrics_that_are_always_known(mock_store: Store) -> None:
    found = scraped(mock_store)
    assert set(labelled(found, "storage_bytes").values()) == {0}
    assert set(labelled(found, "deployments_total").values()) == {0}
    assert {name for name, _ in found} == {
        "versions",
        "deployments_total",
        "storage_bytes",
        "storage_objects",
        "unreadable_objects",
        "training_running",
        "collection_duration_seconds",
        "info",
    }


def test_storage_by_area(mock_bucket: Store) -> None:
    mock_bucket.put_bytes("notes.txt", b"12345")
    found = scraped(mock_bucket)
    sizes: dict[tuple[str, ...], float] = {}
    for stored in mock_bucket.list():
        area = stored.key.split("/")[0] if "/" in stored.key else "other"
        sizes[(area,)] = sizes.get((area,), 0) + stored.size
    assert {area: size for area, size in labelled(found, "storage_bytes").items() if size} == sizes
    assert value(found, "storage_bytes", area="other") == 5
    assert sum(labelled(found, "storage_objects").values()) == len(list(mock_bucket.list()))


def test_durations_are_passed_through(mock_store: Store) -> None:
    found = scraped(mock_store, DURATIONS)
    assert labelled(found, "step_duration_seconds") == {(step,): seconds for step, seconds in DURATIONS.items()}
    assert 0 < (value(found, "collection_duration_seconds") or 0) < 60


def test_metrics_of_a_running_training(bucket: Store) -> None:
    found = scraped(bucket)
    expected = {
        "training_running": 1,
        "training_step": 40,
        "training_steps": 200,
        "training_task_loss": 1.25,
        "training_ewc_loss": 0.5,
        "training_learning_rate": 1e-4,
        "training_tokens_per_second": 900,
        "training_eta_seconds": 75,
        "training_peak_memory_bytes": 2**30,
        "training_gpu_utilisation_ratio": 0.875,
    }
    assert {name: value(found, name) for name in expected} == expected
    assert 50 < time_since(value(found, "training_updated_seconds")) < 600


def test_a_training_with_a_staged_candidate_is_not_running(mock_bucket: Store) -> None:
    mock_bucket.put_json(manifest.run_key("now", "candidate.json"), {})
    found = scraped(mock_bucket)
    assert {name for name, _ in found if name.startswith("training")} == {"training_running"}
    assert value(found, "training_running") == 0


def test_a_stale_training_is_not_running_and_is_exported_for_a_day(mock_bucket: Store) -> None:
    last_report = progress(minutes_ago=11)
    put_progress(mock_bucket, "now", last_report)
    found = scraped(mock_bucket)
    assert value(found, "training_running") == 0
    assert value(found, "training_updated_seconds") == pytest.approx(last_report.updated_at.timestamp(), abs=1e-3)
    assert value(found, "training_step") is None
    tomorrow = at(mock_bucket, datetime.now(UTC) + timedelta(hours=25))
    assert {name for name, _ in tomorrow if name.startswith("training")} == {"training_running"}


def test_the_training_with_the_latest_report_is_chosen(mock_bucket: Store) -> None:
    now = datetime.now(UTC)
    modified_at = {
        manifest.run_key(run, "progress.json"): now - timedelta(minutes=minutes)
        for run, minutes in (("a", 3), ("b", 1), ("c", 2))
    }
    found = {key: Stored(key, 1, modified) for key, modified in modified_at.items()}
    assert inventory.newest_training(found, now) == manifest.run_key("b", "progress.json")
    staged = manifest.run_key("b", "candidate.json")
    assert inventory.newest_training({**found, staged: Stored(staged, 1, now)}, now) == manifest.run_key(
        "c", "progress.json"
    )
