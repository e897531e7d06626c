"""Training checkpoints in the bucket, so that a retry on another worker continues from the last one."""

from pathlib import Path

from learning_engine import archive, telemetry
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.steps.resources import Resources


def newest(resources: Resources, prefix: str, work: Path) -> Path | None:
    """Download and unpack the newest checkpoint below `prefix`; None if there is none or it is unusable."""
    from learning_engine.learning import checkpoint

    found = sorted(item.key for item in resources.store.list(prefix))
    if not found:
        return None
    packed, directory = work / "checkpoint.tar.gz", work / "checkpoint"
    try:
        resources.store.get_file(found[-1], packed)
        # The weights, AdamW's two moments, the mean gradient of λ auto, and a margin.
        archive.unpack(packed, directory, max_bytes=5 * resources.settings.serving.max_adapter_bytes)
        if absent := checkpoint.missing(directory):
            raise IntegrityError(f"Expected a complete checkpoint, found no {', '.join(absent)}.")
    except IntegrityError as error:
        telemetry.event("train.checkpoint_unreadable", checkpoint=resources.store.uri(found[-1]), error=str(error))
        return None
    telemetry.event("train.resumed", checkpoint=resources.store.uri(found[-1]))
    return directory


def keep(resources: Resources, prefix: str, directory: Path) -> None:
    """Upload one checkpoint below `prefix` and delete the previous one. If the store fails, the checkpoint is skipped
    and training continues."""
    step = int(directory.name.rsplit("-", 1)[-1])
    packed = directory.with_suffix(".tar.gz")
    archive.pack(directory, packed)
    key = f"{prefix}{step:08d}.tar.gz"
    try:
        older = [item.key for item in resources.store.list(prefix)]
        resources.store.put_file(key, packed)
        resources.store.delete([name for name in older if name != key])
    except StoreError as error:
        telemetry.event("train.checkpoint_lost", step=step, error=str(error))
    finally:
        packed.unlink()
