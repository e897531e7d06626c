"""Replay: rows sampled from this window for later ones, and rows of earlier windows and of the anchor for this one."""

import math
from pathlib import Path
from typing import NamedTuple

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


class Rows(NamedTuple):
    """A file of a window's rows, of earlier ones from row `first_replayed`, of the anchor from `first_of_anchor`."""

    path: Path
    first_replayed: int
    first_of_anchor: int


def joined(resources: Resources, run_key: str, snapshot: Path, earlier: list[Path], base: Path | None) -> Rows:
    """The snapshot's rows followed by those that the training replays; the snapshot itself if none.

    The rows are drawn from all of `earlier` and from the anchor `base`, as many as the training needs to see each once,
    if there are so many: however many weeks there are, a training costs the same.
    """
    import pyarrow.parquet

    from learning_engine.feedback import replay
    from learning_engine.learning.replayed import ANCHOR_SHARE, rows_to_replay

    settings, target = resources.settings, snapshot.with_name("joined.parquet")
    own, epochs = pyarrow.parquet.read_metadata(snapshot).num_rows, math.ceil(settings.training.epochs)
    size = epochs * rows_to_replay(replay.trainable(snapshot), settings.training.replay)
    if not size:
        return Rows(snapshot, own, own)
    found = replay.join(
        snapshot,
        earlier,
        base,
        target,
        size=size,
        of_anchor=round(size * ANCHOR_SHARE) if base else 0,
        passes=epochs,
        seed=run_key,
        heldout_fraction=settings.dataset.heldout_fraction,
    )
    return Rows(target if any(found) else snapshot, own, own + found.of_windows)


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
