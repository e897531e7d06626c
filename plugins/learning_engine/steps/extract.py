"""The learning half of the weekly road as plain functions: extract, fisher, train, evaluate, publish.

Knows no Airflow. Every step may be tried again on another worker: what it makes lies in the bucket under the run key,
and a step that finds its own result there returns it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.config import digest
from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset, FisherRecord, RunInfo, Window
from learning_engine.records.report import Report
from learning_engine.registry.registry import Draft
from learning_engine.registry.store import NotFound
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from learning_engine.steps.resources import Resources, candidate_key, read_window, workspace

if TYPE_CHECKING:
    from learning_engine.feedback.snapshot import Counts


def extract(resources: Resources, window: Window, *, widen: bool) -> Dataset:
    """The window's feedback as a cleaned snapshot in the bucket; `widen` as in `survey`."""
    asked = window
    with telemetry.step("extract", window=str(window)) as result, workspace() as work:
        snapshot, quarantine = work / "dataset.parquet", work / "quarantine.parquet"
        found = survey(resources, window, snapshot, widen=widen, quarantine=quarantine)
        parent, window, counts = found.parent, found.window, found.counts
        run_key = _run_key(resources, window, archive.sha256_file(snapshot), parent)
        key = candidate_key(run_key, "dataset.parquet")
        sha256 = resources.store.put_file(key, snapshot)
        aside = candidate_key(run_key, "quarantine.parquet")
        if counts.quarantined:
            resources.store.put_file(aside, quarantine)
        dataset = Dataset(
            run_key=run_key,
            parent=parent.version if parent else None,
            window=window,
            uri=resources.store.uri(key),
            sha256=sha256,
            asked=asked,
            quarantine_uri=resources.store.uri(aside) if counts.quarantined else None,
            passed_over=found.passed_over,
            **dataclasses.asdict(counts),
        )
        result.update(window=str(window), parent=dataset.parent, rows=counts.rows, passed_over=found.passed_over)
        result.update(dropped=counts.dropped, quarantined=counts.quarantined)
        return dataset


@dataclass(frozen=True)
class Survey:
    """What a run over a window starts from. `window` may have been widened; `passed_over` as in `Dataset`."""

    parent: AdapterVersion | None
    passed_over: list[str]
    window: Window
    counts: "Counts"


def survey(
    resources: Resources,
    window: Window,
    snapshot: Path,
    *,
    widen: bool,
    quarantine: Path | None = None,
    read: Callable[..., "Counts"] = read_window,
) -> Survey:
    """Find the parent and read the feedback to the Parquet file `snapshot`; leaves the bucket alone.

    With `widen` and `window.carry_over` a week that was too thin or rejected is not lost: the window starts where the
    parent's ended, or before the first version with what was rejected, or as far back as is allowed where it is thin.
    `read` stands in for `read_window`, such as one in another process.
    """
    settings = resources.settings
    parent, passed_over = resources.registry.continuable(
        resources.registry.parent_for(
            window, base_model=settings.model.base, base_revision=settings.model.revision, lora=resources.shape
        )
    )
    carries = widen and settings.window.carry_over
    earliest = window.start - timedelta(days=settings.window.max_days)
    if carries:
        window = Window(max(_undone(resources, window, parent), earliest), window.end)
    counts = read(resources, window, snapshot, quarantine=quarantine)
    if carries and parent is None and counts.rows < settings.feedback.min_samples:
        window = Window(earliest, window.end)
        counts = read(resources, window, snapshot, quarantine=quarantine)
    return Survey(parent, passed_over, window, counts)


def _undone(resources: Resources, window: Window, parent: AdapterVersion | None) -> datetime:
    """Where the feedback begins that no version in the parent's line has learned from."""
    if parent is not None:
        return parent.window.end
    rejected = [
        version.window.start
        for version in resources.registry.versions()
        if version.window.end <= window.start
        and (version.base_model, version.lora) == (resources.settings.model.base, resources.shape)
    ]
    return min([window.start, *rejected])


def _run_key(resources: Resources, window: Window, sha256: str, parent: AdapterVersion | None) -> str:
    """The same for the same work: window, rows, parent and effective configuration."""
    return digest(
        {
            "window": window.to_json(),
            "dataset": sha256,
            "parent": [parent.version, parent.sha256] if parent else None,
            "settings": resources.settings.fingerprint(),
        }
    )[:20]


def fisher(resources: Resources, dataset: Dataset) -> FisherRecord:
    """Fisher information that guards the run's parent; computed once per version."""
    with telemetry.step("fisher", guards=dataset.parent or "base") as result:
        parent = resources.registry.get(dataset.parent) if dataset.parent else None
        record = fisher_step.guard(resources, parent)
        result.update(uri=record.uri, sequences=record.n_sequences, note=record.note)
        return record


def fisher_of(resources: Resources, version: str, *, window: Window | None) -> FisherRecord:
    """Fisher information of a published version, computed anew; on its own window, or on another one."""
    with telemetry.step("fisher", guards=version):
        return fisher_step.guard(resources, resources.registry.get(version), window=window, anew=True)


def train(resources: Resources, dataset: Dataset, fisher: FisherRecord) -> Candidate:
    """The candidate adapter, staged under the run key; continues from the newest checkpoint in the bucket."""
    if candidate := _staged(resources, dataset.run_key):
        return candidate
    with telemetry.step("train", run_key=dataset.run_key, parent=dataset.parent) as result:
        candidate = train_step.spooled(resources, dataset.run_key) or train_step.train_candidate(
            resources, dataset, fisher
        )
        metrics = candidate.training
        result.update(task_loss=metrics.task_loss, ewc_loss=metrics.ewc_loss, steps=metrics.steps)
        return candidate


def _staged(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier try has staged; None where there is none, or what is there is not whole."""
    store = resources.store
    try:
        candidate = Candidate.from_json(store.get_json(candidate_key(run_key, "candidate.json")))
        found = store.digest(store.key(candidate.uri))
    except NotFound:
        return None
    except IntegrityError as error:
        telemetry.warning("train.candidate_altered", run_key=run_key, message=str(error))
        return None
    if found != candidate.sha256:
        telemetry.warning("train.candidate_altered", run_key=run_key, expected=candidate.sha256, found=found)
        return None
    return candidate


def evaluate(resources: Resources, dataset: Dataset, candidate: Candidate) -> Report:
    """The report on the candidate; its probes and the held-out rows are staged beside it."""
    with telemetry.step("evaluate", run_key=candidate.run_key) as result, workspace() as work:
        report = evaluate_step.judge(resources, dataset, candidate, work)
        result.update(accepted=report.accepted, loss=report.loss, loss_parent=report.loss_parent)
        return report


def publish(
    resources: Resources, dataset: Dataset, candidate: Candidate, report: Report, *, run: RunInfo
) -> AdapterVersion:
    """The immutable version; the same work published again returns the version that it made."""
    with telemetry.step("publish", run_key=candidate.run_key) as result:
        version = resources.registry.publish(
            Draft(
                parent=candidate.parent,
                window=candidate.window,
                run_key=candidate.run_key,
                base_model=candidate.base_model,
                base_revision=candidate.base_revision,
                lora=candidate.lora,
                sha256=candidate.sha256,
                size=candidate.size,
                accepted=report.accepted,
                dataset=dataset,
                fisher=candidate.fisher,
                ewc_lambda=candidate.ewc_lambda,
                training=candidate.training,
                report=report,
                config=resources.settings.fingerprint(),
                run=run,
            ),
            archive=candidate.uri,
            heldout=resources.store.uri(candidate_key(candidate.run_key, "heldout.parquet")),
            replay=candidate.replay_uri,
        )
        result.update(version=version.version, accepted=version.accepted)
        return version
