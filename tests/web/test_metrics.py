"""/metrics as Prometheus reads them: what the bucket knows, nothing that it does not."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import learning_engine
from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.contracts import ReplicaProof, TrainingProgress
from learning_engine.errors import StoreError
from learning_engine.feedback.steering import QUARANTINED, VERDICTS
from learning_engine.registry import manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from learning_engine.resources import Resources
from learning_engine.web import figures, metrics, trained
from tests.registry import conftest as stores
from tests.registry.test_store import corrupt
from tests.registry.work import chain, deployment, stage, week

swift, moto, server, connect = stores.swift, stores.moto, stores.server, stores.connect
store, mock_store = stores.store, stores.mock_store

DURATIONS = {"train": 61.5, "fisher": 12.25}
PACKAGE = Path(learning_engine.__file__).parent
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def resources_of(store: Store) -> Resources:
    def none() -> Any:
        raise AssertionError("not asked for")

    return Resources(config.load(), lambda: store, none, none)


def read(text: bytes) -> Samples:
    """The samples by name and labels. What is wrong with the text fails here."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.name.startswith("learning_engine_"), family
        assert family.documentation.endswith("."), family
        assert family.type in ("gauge", "counter"), family
        assert family.samples, family
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample
            assert sample.value == sample.value, sample
            key = sample.name.removeprefix("learning_engine_"), tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def scraped(store: Store, durations: dict[str, float] | None = None) -> Samples:
    return read(metrics.render(resources_of(store), durations or {}))


def at(store: Store, now: datetime) -> Samples:
    registry = CollectorRegistry()
    registry.register(metrics.BucketCollector(resources_of(store), {}, now=now))
    return read(generate_latest(registry))


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def labelled(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    """The values of the labels but for the version, and the sample."""
    return {
        tuple(text for label, text in labels if label != "version"): number
        for (found, labels), number in samples.items()
        if found == name
    }


def progress(step: int = 40, *, minutes_ago: float = 1.0) -> TrainingProgress:
    told = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return TrainingProgress(step, 200, 1.25, 0.5, 1e-4, 900.0, 75.0, 0.875, 2**30, [(step, 1.25, 0.5)], told)


def tell(store: Store, run: str, told: TrainingProgress) -> None:
    store.put_json(manifest.run_key(run, "progress.json"), told.to_json())


@pytest.fixture
def house(store: Store) -> Store:
    return furnish(store)


@pytest.fixture
def mock_house(mock_store: Store) -> Store:
    return furnish(mock_store)


def furnish(store: Store) -> Store:
    """v1.0 and v1.1 accepted, v1.2 rejected, v1.1 revoked by a rollback to v1.0 on two replicas; a run trains."""
    registry, ledger = Registry(store, settle_seconds=0), Ledger(store)
    chain(store, registry, 2)
    work = stage(store, "rejected", week(2), "v1.1", accepted=False)
    dataset = dataclasses.replace(
        work.draft.dataset, dropped={"no_answer": 3, "new in this week": 4}, quarantined={"burst": 5}
    )
    training = dataclasses.replace(work.draft.training, dropped={"special_token": 2, "too_long": 1}, predicted_kl=0.25)
    report = dataclasses.replace(
        work.draft.report, drift_windows={"v1.0": 0.5, "v1.1": 0.25}, retained={"v1.0": 0.75, "v1.1": 0.5}
    )
    draft = dataclasses.replace(work.draft, dataset=dataset, training=training, report=report)
    dataclasses.replace(work, draft=draft).publish(registry)
    start = datetime(2026, 10, 1, tzinfo=UTC)
    for number, (version, action) in enumerate((("v1.0", "deploy"), ("v1.1", "deploy"), ("v1.0", "rollback"))):
        entry = deployment(version, start + timedelta(days=number), action, number)
        proofs = [
            ReplicaProof(f"http://max-{replica}:8000", entry.adapter_name, 4, 1.5 + replica) for replica in (0, 1)
        ]
        ledger.record(dataclasses.replace(entry, replicas=proofs))
    registry.revoke("v1.1", by="ada", reason="rolled back to v1.0")
    tell(store, "now", progress())
    return store


def test_what_is_live(house: Store) -> None:
    found = scraped(house)
    assert value(found, "info", version=learning_engine.__version__, base_model=config.load().model.base) == 1
    assert labelled(found, "live") == {("v1.0-0",): 1}
    assert value(found, "live", version="v1.0", adapter="v1.0-0") == 1
    assert value(found, "live_since_seconds") == datetime(2026, 10, 3, tzinfo=UTC).timestamp()
    assert value(found, "live_archive_present") == 1
    assert labelled(found, "swap_seconds") == {("http://max-0:8000",): 1.5, ("http://max-1:8000",): 2.5}
    assert labelled(found, "deployments_total") == {("deploy",): 2, ("rollback",): 1}


def test_the_versions_and_the_gate(house: Store) -> None:
    found = scraped(house)
    verdicts = {text: value(found, "versions", verdict=text) for text in ("accepted", "rejected", "revoked")}
    assert verdicts == {"accepted": 1, "rejected": 1, "revoked": 1}
    # `kept` is no rule of this package: whatever is called so is `other`.
    assert labelled(found, "gate_verdicts_total") == {("learned", "passed"): 3, ("other", "failed"): 3}
    assert value(found, "newest_accepted", version="v1.2") == 0
    assert labelled(found, "newest_rule_passed") == {("learned",): 1, ("other",): 0}


def test_the_newest_version(house: Store) -> None:
    found = scraped(house)
    versions = {dict(labels)["version"] for (name, labels) in found if name.startswith("newest_")}
    assert versions == {"v1.2"}
    expected = {
        "newest_window_end_seconds": week(2).end.timestamp(),
        "newest_task_loss": 1.2,
        "newest_ewc_loss": 0.03,
        "newest_ewc_lambda": 300.0,
        "newest_retained_ratio": 0.5,
        "newest_users": 40,
        "newest_tokens": 9000,
        "newest_training_seconds": 61.0,
        "newest_tokens_per_second": 150.0,
        "newest_peak_memory_bytes": 1,
    }
    assert {name: value(found, name, version="v1.2") for name in expected} == expected
    assert labelled(found, "newest_heldout_loss") == {("candidate",): 1.1, ("parent",): 1.4, ("base",): 2.2}
    assert labelled(found, "newest_drift_nats") == {("parent",): 0.1, ("base",): 0.4}
    assert labelled(found, "newest_kl_nats") == {("predicted",): 0.25, ("measured",): 0.375}
    assert labelled(found, "newest_samples") == {("up",): 250, ("down",): 50}
    dropped = {("no_answer",): 3, ("special_token",): 2, ("too_long",): 1, ("other",): 4}
    assert labelled(found, "newest_dropped") == dropped
    assert labelled(found, "newest_quarantined") == {("burst",): 5}
    assert time_since(value(found, "newest_created_seconds", version="v1.2")) < 600


def time_since(moment: float | None) -> float:
    assert moment is not None
    return datetime.now(UTC).timestamp() - moment


def test_what_was_not_measured_is_absent(mock_store: Store) -> None:
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
    # A NaN can only come from a record that another program has written.
    found = scraped(mock_store)
    assert labelled(found, "newest_heldout_loss") == {("base",): 2.2}
    absent = ("users", "retained_ratio", "drift_nats", "kl_nats", "gpu_memory_bytes", "gpu_utilisation_ratio")
    for name in (*absent, "rule_passed", "quarantined"):
        assert labelled(found, f"newest_{name}") == {}, name
    assert labelled(found, "newest_dropped") == {("too_long",): 2}
    assert not {name for name, _ in found if name.startswith(("live", "swap", "step_", "training_"))} - {
        "training_running"
    }


def test_an_empty_bucket(store: Store) -> None:
    found = scraped(store)
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


def test_storage_by_area(mock_house: Store) -> None:
    mock_house.put_bytes("notes.txt", b"12345")
    found = scraped(mock_house)
    sizes: dict[tuple[str, ...], float] = {}
    for stored in mock_house.list():
        area = stored.key.split("/")[0] if "/" in stored.key else "other"
        sizes[(area,)] = sizes.get((area,), 0) + stored.size
    assert {area: size for area, size in labelled(found, "storage_bytes").items() if size} == sizes
    assert value(found, "storage_bytes", area="other") == 5
    assert sum(labelled(found, "storage_objects").values()) == len(list(mock_house.list()))


def test_durations_are_those_that_are_given(mock_store: Store) -> None:
    found = scraped(mock_store, DURATIONS)
    assert labelled(found, "step_duration_seconds") == {(step,): seconds for step, seconds in DURATIONS.items()}
    assert 0 < (value(found, "collection_duration_seconds") or 0) < 60


def test_a_training_that_is_under_way(house: Store) -> None:
    found = scraped(house)
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


def test_a_training_that_has_staged_its_candidate_is_over(mock_house: Store) -> None:
    mock_house.put_json(manifest.run_key("now", "candidate.json"), {})
    found = scraped(mock_house)
    assert {name for name, _ in found if name.startswith("training")} == {"training_running"}
    assert value(found, "training_running") == 0


def test_a_training_that_says_nothing_is_not_under_way_and_is_told_of_for_a_day(mock_house: Store) -> None:
    said = progress(minutes_ago=11)
    tell(mock_house, "now", said)
    found = scraped(mock_house)
    assert value(found, "training_running") == 0
    assert value(found, "training_updated_seconds") == pytest.approx(said.updated_at.timestamp(), abs=1e-3)
    assert value(found, "training_step") is None
    tomorrow = at(mock_house, datetime.now(UTC) + timedelta(hours=25))
    assert {name for name, _ in tomorrow if name.startswith("training")} == {"training_running"}


def test_the_newest_of_several_trainings(mock_house: Store) -> None:
    tell(mock_house, "a later one", progress(step=7))
    mock_house.put_json(manifest.run_key("now", "candidate.json"), {})
    assert value(scraped(mock_house), "training_step") == 7


HARMS: dict[str, Callable[[Store], str]] = {
    "metadata": lambda store: manifest.adapter_key("v1.1", "metadata.json"),
    "ledger": lambda store: next(stored.key for stored in store.list(manifest.LEDGER)),
    "progress": lambda store: manifest.run_key("now", "progress.json"),
}
LOST = {"metadata": "gate_verdicts_total", "ledger": "deployments_total", "progress": "training_step"}
AREA = {"metadata": "adapters", "ledger": "deployments", "progress": "runs"}


@pytest.mark.parametrize("harm", ["altered", "no record", "no JSON"])
@pytest.mark.parametrize("kind", HARMS)
def test_a_record_that_cannot_be_read_is_counted_and_costs_only_what_is_made_of_it(
    mock_house: Store, kind: str, harm: str
) -> None:
    before = scraped(mock_house)
    assert set(labelled(before, "unreadable_objects").values()) == {0}
    key = HARMS[kind](mock_house)
    if harm == "altered":
        corrupt(mock_house, key)
    else:
        mock_house.put_bytes(key, b'{"record": "Other"}' if harm == "no record" else b"{")
    found = scraped(mock_house)
    counted = labelled(found, "unreadable_objects")
    assert counted == {(area,): int(area == AREA[kind]) for area in ("adapters", "deployments", "runs")}
    assert {name for name, _ in before} - {name for name, _ in found} >= {LOST[kind]}
    assert value(found, "newest_task_loss", version="v1.2") == 1.2
    assert labelled(found, "live") == {("v1.0-0",): 1}


def test_where_the_newest_ledger_entry_cannot_be_read_nothing_is_said_of_what_is_live(mock_house: Store) -> None:
    corrupt(mock_house, sorted(stored.key for stored in mock_house.list(manifest.LEDGER))[-1])
    found = scraped(mock_house)
    assert not {name for name, _ in found if name.startswith(("live", "swap"))}


def test_a_live_version_whose_archive_is_gone(mock_house: Store) -> None:
    mock_house.delete([manifest.adapter_key("v1.0", "adapter.tar.gz")])
    assert value(scraped(mock_house), "live_archive_present") == 0


def test_a_bucket_that_cannot_be_listed_is_no_empty_one(moto: ObjectStore, connect: Any) -> None:
    nowhere = Store(connect(moto), "no-such-bucket-0123")
    with pytest.raises(StoreError):
        metrics.render(resources_of(nowhere), {})


@pytest.fixture
def requests(mock_house: Store) -> Iterator[list[str]]:
    """The operations that the store is asked for, with the key."""
    asked: list[str] = []

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:
        asked.append(f"{model.name} {params['url_path'].partition('models/a/')[2]}".strip())

    hooks = mock_house.client.meta.events
    hooks.register("before-call.s3", note)
    yield asked
    hooks.unregister("before-call.s3", note)


def test_a_scrape_lists_once_and_reads_only_what_can_have_changed(mock_house: Store, requests: list[str]) -> None:
    resources = resources_of(mock_house)
    metrics.render(resources, {})
    first = list(requests)
    assert [one for one in first if one.startswith("List")] == ["ListObjectsV2"]
    assert len(first) == 1 + 3 + 3 + 1, "versions, ledger entries, progress"
    requests.clear()
    metrics.render(resources, {})
    assert requests == ["ListObjectsV2", f"GetObject {manifest.run_key('now', 'progress.json')}"]


def test_every_metric_is_described_once_and_all_that_is_emitted_is_described(mock_house: Store) -> None:
    described = {metric.name: metric for metric in metrics.described()}
    assert len(described) == len(metrics.described())
    for metric in described.values():
        assert re.fullmatch(r"learning_engine_[a-z_]+", metric.name)
    emitted = list(metrics.BucketCollector(resources_of(mock_house), DURATIONS).collect())
    gpu = {f"learning_engine_newest_gpu_{name}" for name in ("memory_bytes", "utilisation_ratio")}
    assert {metric.name for metric in emitted} == set(described) - gpu
    for metric in emitted:
        assert metric.documentation == described[metric.name].documentation


def test_the_labels_know_every_reason_and_every_rule() -> None:
    def named(pattern: str, *files: str) -> set[str]:
        return {name for file in files for name in re.findall(pattern, (PACKAGE / file).read_text())}

    reasons = named(r'(?:Unreadable|Dropped)\(\s*"(\w+)"', "feedback/clean.py", "feedback/shapes.py")
    reasons |= named(r'self\.dropped\["(\w+)"\]', "feedback/dataset.py") | set(VERDICTS[1:])
    assert {VERDICTS[verdict] for verdict in QUARANTINED} | {"no_prompt", "zero_weight"} <= reasons
    assert reasons == trained.REASONS
    rules = named(r'(?:Rule|_drift)\(\s*"(\w+)"', "evaluation/gate.py")
    assert rules == figures.RULES


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, learning_engine.web.metrics; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert not {"torch", "pyarrow", "boto3", "fastapi", "airflow", "transformers"} & set(found.stdout.split())
