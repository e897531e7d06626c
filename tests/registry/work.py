"""Staged runs, ready to publish."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from learning_engine.records.contracts import (
    AdapterVersion,
    Dataset,
    Deployment,
    FisherRecord,
    LoraShape,
    RunInfo,
    TrainingMetrics,
    Window,
)
from learning_engine.records.report import Probes, Report, Rule
from learning_engine.registry import manifest
from learning_engine.registry.registry import Draft, Registry
from learning_engine.registry.store import Store

SHAPE = LoraShape(rank=16, alpha=32.0, target_modules=("k_proj", "q_proj"))
MONDAY = datetime(2026, 9, 7, tzinfo=UTC)


def week(number: int) -> Window:
    return Window(MONDAY + timedelta(weeks=number), MONDAY + timedelta(weeks=number + 1))


def run(number: int = 0) -> RunInfo:
    return RunInfo("learning_engine_weekly", f"scheduled__{number}", "scheduled")


@dataclass(frozen=True)
class Work:
    draft: Draft
    archive: str
    heldout: str | None
    replay: str | None = None

    def publish(self, registry: Registry) -> AdapterVersion:
        return registry.publish(self.draft, archive=self.archive, heldout=self.heldout, replay=self.replay)


def stage(store: Store, key: str, window: Window, parent: str | None = None, **changes: Any) -> Work:
    """Stage archive, snapshot, held-out set and probes of the run `key`; `changes` are fields of the draft."""

    def put(name: str) -> tuple[str, str]:
        place = manifest.run_key(key, name)
        return store.uri(place), store.put_bytes(place, f"{name} of {key}".encode() * 100)

    archive, sha256 = put("adapter.tar.gz")
    snapshot, snapshot_sha256 = put("dataset.parquet")
    heldout, _ = put("heldout.parquet")
    probes, probes_sha256 = put("probes.json")
    put("checkpoints/00000010.tar.gz")
    draft = Draft(
        parent=parent,
        window=window,
        run_key=key,
        base_model="tiny-llama",
        base_revision="abc",
        lora=SHAPE,
        sha256=sha256,
        size=store.head(manifest.run_key(key, "adapter.tar.gz")).size,
        accepted=True,
        dataset=dataset(key, window, parent, uri=snapshot, sha256=snapshot_sha256),
        fisher=FisherRecord(parent or "base", "diagonal", "sampled", "per_supervised_token", None, None, 0, 0),
        ewc_lambda=300.0,
        training=TrainingMetrics(1.2, 0.03, 40, 300, {"too_long": 2}, 9000, 4000, 61.0, 150.0, 1, None, "cpu", "fp32"),
        report=report(key, Probes(probes, probes_sha256, 4, 1.5)),
        config={"lora": {"rank": 16}},
        run=run(),
    )
    draft = dataclasses.replace(draft, **changes)
    draft = dataclasses.replace(draft, report=dataclasses.replace(draft.report, accepted=draft.accepted))
    return Work(draft, archive, heldout)


def with_reservoir(store: Store, work: Work) -> Work:
    """The same run with a staged reservoir for later windows."""
    place = manifest.run_key(work.draft.run_key, "replay.parquet")
    store.put_bytes(place, f"rows of {work.draft.run_key}".encode())
    return dataclasses.replace(work, replay=store.uri(place))


def dataset(key: str, window: Window, parent: str | None, *, uri: str, sha256: str) -> Dataset:
    return Dataset(key, parent, window, uri, sha256, 300, 250, 50, 40, 200, 310, {"unreadable": 10}, 9000)


def report(key: str, probes: Probes | None) -> Report:
    rules = [
        Rule("learned", 0.25, ">=", 0.0, True, ""),
        Rule("kept", None, ">=", 0.2, False, "no held-out set | of v1.0"),
    ]
    return Report(
        key, 30, 1.1, 1.4, 2.2, 0.25, {"v1.0": 1.3}, {"v1.0": 1.25}, {"v1.0": 2.0}, {"v1.0": 0.93},
        0.1, 0.4, 0.6, 0.5, rules, True, probes, ["one note"],
    )  # fmt: skip


def chain(store: Store, registry: Registry, weeks: int) -> list[AdapterVersion]:
    """One accepted version per week, each the parent of the next."""
    versions: list[AdapterVersion] = []
    for number in range(weeks):
        parent = versions[-1].version if versions else None
        versions.append(stage(store, f"run{number}", week(number), parent).publish(registry))
    return versions


def deployment(version: str | None, at: datetime, action: str = "deploy", number: int = 0) -> Deployment:
    return Deployment(version, f"{version}-0", None, None, [], True, action, "schedule", run(number), at)  # type: ignore[arg-type]
