"""The task `extract`: find the parent, and store one window of feedback as a cleaned snapshot in the bucket."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.config import Settings, digest
from learning_engine.records.contracts import AdapterVersion, Dataset, Window
from learning_engine.registry import manifest
from learning_engine.steps.enough import enough
from learning_engine.steps.resources import Resources, read_window, workspace

if TYPE_CHECKING:
    from learning_engine.feedback.snapshot import Counts


def extract(resources: Resources, window: Window, *, widen: bool) -> Dataset:
    """Store the window's feedback as a cleaned snapshot in the bucket; `widen` as in `survey`."""
    asked = window
    with telemetry.step("extract", window=str(window)) as result, workspace() as work:
        snapshot, quarantine = work / "dataset.parquet", work / "quarantine.parquet"
        found = survey(resources, window, snapshot, widen=widen, quarantine=quarantine)
        parent, window, counts = found.parent, found.window, found.counts
        run_key = _run_key(resources, window, archive.sha256_file(snapshot), parent)
        key = manifest.run_key(run_key, "dataset.parquet")
        sha256 = resources.store.put_file(key, snapshot)
        aside = manifest.run_key(run_key, "quarantine.parquet")
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
    """What a run starts from. `window` may have been widened; `passed_over` as in `Dataset`."""

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
    """Find the parent and write the feedback to the Parquet file `snapshot`; writes nothing to the bucket.

    With `widen` and `window.carry_over`, earlier feedback that no version has learned is included: the window starts at
    the end of the parent's. Without a parent it starts at the first rejected version's window, or as far back as
    `window.max_days` allows if that is still not enough to train on or to judge by.
    `read` replaces `read_window`, for example to read in another process.
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
        window = Window(max(_unlearned_since(resources, window, parent), earliest), window.end)
    counts = read(resources, window, snapshot, quarantine=quarantine)
    if carries and parent is None and not _enough(settings, counts):
        window = Window(earliest, window.end)
        counts = read(resources, window, snapshot, quarantine=quarantine)
    return Survey(parent, passed_over, window, counts)


def _enough(settings: Settings, counts: "Counts") -> bool:
    return enough(settings, rows=counts.rows, heldout=counts.heldout, users=counts.users).passed


def _unlearned_since(resources: Resources, window: Window, parent: AdapterVersion | None) -> datetime:
    """The time from which no version in the parent's lineage has learned the feedback."""
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
    """The identity of the work: a digest of window, rows, parent and effective configuration."""
    return digest(
        {
            "window": window.to_json(),
            "dataset": sha256,
            "parent": [parent.version, parent.sha256] if parent else None,
            "settings": resources.settings.fingerprint(),
        }
    )[:20]
