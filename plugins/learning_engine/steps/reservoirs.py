"""Replay: rows sampled from this window for later ones, and rows of earlier windows and of the anchor for this one."""

import math
from pathlib import Path

from learning_engine import telemetry
from learning_engine.errors import IntegrityError
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import anchor
from learning_engine.steps.resources import Resources


def stage(resources: Resources, run_key: str, snapshot: Path, earlier: list[Path]) -> str | None:
    """Sample and stage the rows of this window for later ones to replay. Returns their URI, None if there are none."""
    from learning_engine.feedback import replay

    training = resources.settings.training
    drawn = snapshot.with_name("replay.parquet")
    if not training.replay:
        return None
    if not replay.draw(snapshot, drawn, size=training.replay_rows, seed=training.seed, earlier=earlier):
        return None
    key = manifest.run_key(run_key, "replay.parquet")
    resources.store.put_file(key, drawn)
    return resources.store.uri(key)


def of_base(resources: Resources, work: Path) -> Path | None:
    """The anchor, in a file; None if there is none."""
    path = work / "anchor.parquet"
    return path if anchor.fetch(resources, path) else None


def joined(resources: Resources, run_key: str, snapshot: Path, earlier: list[Path], base: Path | None) -> Path:
    """A file with the snapshot's rows followed by those that the training replays; the snapshot itself if none.

    The rows are drawn from all of `earlier` and from the anchor `base`, as many as the training needs to see each once:
    however many weeks there are, a training costs the same.
    """
    from learning_engine.feedback import replay
    from learning_engine.learning.batches import rows_to_replay

    settings, joined = resources.settings, snapshot.with_name("joined.parquet")
    if not settings.training.replay:
        return snapshot
    size = math.ceil(settings.training.epochs) * rows_to_replay(replay.trainable(snapshot), settings.training.replay)
    fraction = settings.dataset.heldout_fraction
    replayed = replay.join(snapshot, earlier, base, joined, size=size, seed=run_key, heldout_fraction=fraction)
    return joined if replayed else snapshot


def fetch(resources: Resources, parent: str | None, work: Path) -> list[Path]:
    """Download the reservoirs of `parent` and its ancestors that still exist and are intact, oldest first."""
    found: list[Path] = []
    missing: list[str] = []
    for version in reversed(resources.registry.lineage(parent)):
        if version.replay_uri is None:
            continue
        path = work / f"replay-{version.version}.parquet"
        try:
            resources.store.get_file(resources.store.key(version.replay_uri), path)
            found.append(path)
        except (NotFound, IntegrityError):
            missing.append(version.version)
    telemetry.event("train.replay", reservoirs=len(found), missing=missing)
    return found
