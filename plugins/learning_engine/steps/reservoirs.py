"""Rows that later windows learn once more: drawn from this window, and fetched from those of earlier ones.

Called by train.
"""

from pathlib import Path

from learning_engine import telemetry
from learning_engine.errors import IntegrityError
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps.resources import Resources


def stage(resources: Resources, run_key: str, snapshot: Path, earlier: list[Path]) -> str | None:
    """Stage what later windows will replay of this one; returns its URI, None where there is nothing."""
    from learning_engine.feedback import replay

    training = resources.settings.training
    drawn = snapshot.with_name("replay.parquet")
    if not training.replay:
        return None
    if not replay.draw(snapshot, drawn, size=training.replay, seed=training.seed, earlier=earlier):
        return None
    key = manifest.run_key(run_key, "replay.parquet")
    resources.store.put_file(key, drawn)
    return resources.store.uri(key)


def joined(resources: Resources, snapshot: Path, earlier: list[Path]) -> Path:
    """A file of the snapshot's rows and after them what `earlier` windows kept; the snapshot itself without any."""
    from learning_engine.feedback import replay

    joined, fraction = snapshot.with_name("joined.parquet"), resources.settings.dataset.heldout_fraction
    return joined if earlier and replay.join(snapshot, earlier, joined, heldout_fraction=fraction) else snapshot


def fetch(resources: Resources, parent: str | None, work: Path) -> list[Path]:
    """What is left, and whole, of the reservoirs of `parent` and its ancestors, oldest first."""
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
