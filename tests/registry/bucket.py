"""A bucket with several versions, and helpers to sweep and list it."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from learning_engine.config.sections import Retention
from learning_engine.records.contracts import FisherRecord
from learning_engine.registry import manifest, retention
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.retention import Swept
from learning_engine.registry.store import Store
from tests.registry.work import chain, deployment, stage, week

RETENTION = Retention(text_days=90, runs_days=30, rejected_days=180)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def keys(store: Store, prefix: str = "") -> set[str]:
    return {stored.key for stored in store.list(prefix)}


def sweep(store: Store, days: float, **options: Any) -> Swept:
    return retention.sweep(store, Registry(store), Ledger(store), RETENTION, now=in_days(days), **options)


def measure(store: Store, version: str, what: str = "own") -> FisherRecord:
    """Store Fisher information of `version`, measured on `what`."""
    key = manifest.fisher_key(version, f"{what}.safetensors")
    sha256 = store.put_bytes(key, f"fisher of {version} on {what}".encode())
    record = FisherRecord(version, "diagonal", "sampled", "nats", store.uri(key), sha256, 10, 100)
    store.put_json(manifest.fisher_key(version, "fisher.json"), record.to_json())
    return record


def populate(store: Store) -> Store:
    """Publish v1.0 to v1.4 and deploy v1.0 to v1.3, so that v1.2 is the rollback target.

    v1.0 and v1.1 have Fisher information. v1.4 was rejected. The run `thin` published nothing.
    """
    registry = Registry(store, settle_seconds=0)
    chain(store, registry, 2)
    fisher = measure(store, "v1.0")
    stage(store, "run2", week(2), "v1.1", fisher=fisher).publish(registry)
    measure(store, "v1.1")
    stage(store, "run3", week(3), "v1.2").publish(registry)
    stage(store, "rejected", week(4), "v1.3", accepted=False).publish(registry)
    store.put_bytes(manifest.run_key("thin", "dataset.parquet"), b"12345")
    ledger = Ledger(store)
    for number in range(4):
        entry = deployment(f"v1.{number}", datetime(2026, 10, 1 + number, tzinfo=UTC), number=number)
        ledger.record(dataclasses.replace(entry, previous=f"v1.{number - 1}" if number else None))
    return store
