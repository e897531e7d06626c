"""A bucket with a value for every metric, and helpers to scrape and parse it."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from learning_engine import config
from learning_engine.records.contracts import ReplicaProof, TrainingProgress
from learning_engine.records.report import Content, Manners
from learning_engine.registry import manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from learning_engine.steps.resources import Resources
from learning_engine.web import metrics
from tests.registry.work import chain, deployment, stage, week

DURATIONS = {"train": 61.5, "fisher": 12.25}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def resources_of(store: Store) -> Resources:
    def none() -> Any:
        raise AssertionError("must not be opened")

    return Resources(config.load(), lambda: store, none, none)


def read(text: bytes) -> Samples:
    """The samples by name and labels. Fails on invalid text."""
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


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def labelled(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its label values, without the label `version`."""
    return {
        tuple(text for label, text in labels if label != "version"): number
        for (found, labels), number in samples.items()
        if found == name
    }


def progress(step: int = 40, *, minutes_ago: float = 1.0) -> TrainingProgress:
    updated_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return TrainingProgress(step, 200, 1.25, 0.5, 1e-4, 900.0, 75.0, 0.875, 2**30, [(step, 1.25, 0.5)], updated_at)


def put_progress(store: Store, run: str, progress: TrainingProgress) -> None:
    store.put_json(manifest.run_key(run, "progress.json"), progress.to_json())


def populate(store: Store) -> Store:
    """v1.0 and v1.1 accepted, v1.2 rejected, v1.1 revoked by a rollback to v1.0 on two replicas; one run trains."""
    registry, ledger = Registry(store, settle_seconds=0), Ledger(store)
    chain(store, registry, 2)
    work = stage(store, "rejected", week(2), "v1.1", accepted=False)
    dataset = dataclasses.replace(
        work.draft.dataset, dropped={"no_answer": 3, "new in this week": 4}, quarantined={"burst": 5}
    )
    training = dataclasses.replace(
        work.draft.training,
        dropped={"special_token": 2, "too_long": 1},
        gpu_utilisation=0.75,
        peak_memory_bytes=60 * 2**30,
        device_memory_bytes=72 * 2**30,
    )
    report = dataclasses.replace(
        work.draft.report,
        drift_windows={"v1.0": 0.5, "v1.1": 0.25},
        retained={"v1.0": 0.75, "v1.1": 0.5},
        taught=Content(places=40, conversations=10, candidate=0.75, parent=0.0, base=0.0),
        manners=Manners(conversations=20, left=0.875, loss=0.75, loss_base=0.5, kl=0.25),
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
    put_progress(store, "now", progress())
    return store
