"""The train step: from snapshot and Fisher information to a staged candidate. Called by `pipeline.train`."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import Candidate, Dataset, FisherRecord, TrainingMetrics
from learning_engine.registry import card, manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import disk, progress
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps.resources import Resources, adapter_of, candidate_key, get_staged, workspace

if TYPE_CHECKING:
    from learning_engine.learning.model import Loaded

ARCHIVE = "adapter.tar.gz"


def train_candidate(resources: Resources, dataset: Dataset, fisher: FisherRecord) -> Candidate:
    """Train, pack and stage. Where the store takes nothing, the candidate stays in a local directory that is named."""
    from learning_engine.learning import memory, model

    settings = resources.settings
    memory.limit(settings.worker.gpu_memory_fraction)
    parent = resources.registry.get(dataset.parent) if dataset.parent else None
    with workspace() as work:
        snapshot = work / "dataset.parquet"
        get_staged(resources, dataset.uri, snapshot, dataset.sha256)
        earlier = _reservoirs(resources, dataset.parent, work) if settings.training.replay else []
        reservoir = _stage_reservoir(resources, dataset.run_key, snapshot, earlier)
        loaded = model.load(
            settings.model,
            settings.lora,
            adapter=adapter_of(resources, parent, work) if parent else None,
            trainable=True,
            seed=settings.training.seed,
        )
        fisher_step.same_base(resources, parent, loaded.revision)
        _require_room(resources, loaded, fisher, snapshot)
        metrics = _fit(resources, loaded, dataset, fisher, snapshot, earlier)
        files = work / "candidate"
        model.save_adapter(loaded, files)
        (files / "README.md").write_text(card.archive_card(dataset, settings.model.base, resources.shape))
        packed = archive.pack(files, work / ARCHIVE)
        candidate = Candidate(
            run_key=dataset.run_key,
            parent=dataset.parent,
            window=dataset.window,
            base_model=settings.model.base,
            base_revision=loaded.revision,
            lora=resources.shape,
            uri=resources.store.uri(candidate_key(dataset.run_key, ARCHIVE)),
            sha256=packed.sha256,
            size=packed.size,
            ewc_lambda=metrics.ewc_lambda or 0.0,
            fisher=fisher,
            training=metrics,
            replay_uri=reservoir,
        )
        _stage(resources, candidate, work / ARCHIVE)
        return candidate


def _require_room(resources: Resources, loaded: "Loaded", fisher: FisherRecord, snapshot: Path) -> None:
    """Raise NoRoom unless the disk takes what training writes beside the snapshot."""
    from learning_engine.learning.model import lora_weights

    weights = sum(weight.numel() * weight.element_size() for weight in lora_weights(loaded.model).values())
    guarded = resources.store.head(resources.store.key(fisher.uri)).size if fisher.uri else 0
    # A checkpoint holds the weights and AdamW's two moments of each: the last one, the next and its archive at once.
    checkpoints, candidate = 3 * 3 * weights, 2 * weights
    needed = checkpoints + candidate + guarded + 2 * snapshot.stat().st_size
    disk.require(snapshot.parent, needed, what="checkpoints, Fisher information and the candidate of this training")


def spooled(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier try could only keep on this worker's disk, now staged; None where there is none."""
    directory = _spool(resources, run_key)
    record = directory / manifest.CANDIDATE
    if not record.is_file():
        return None
    try:
        candidate = Candidate.from_json(json.loads(record.read_text()))
        found = archive.sha256_file(directory / ARCHIVE)
    except (OSError, ValueError, RecordError) as error:
        telemetry.warning("train.spooled_unreadable", source=str(directory), message=str(error))
        return None
    if found != candidate.sha256:
        return None
    telemetry.event("train.continued", source=str(directory))
    _stage(resources, candidate, directory / ARCHIVE)
    shutil.rmtree(directory)  # only now does the bucket hold all of it
    return candidate


def _stage_reservoir(resources: Resources, run_key: str, snapshot: Path, earlier: list[Path]) -> str | None:
    """Stage what later windows will replay of this one; returns its URI, None where there is nothing."""
    from learning_engine.feedback import replay

    training = resources.settings.training
    drawn = snapshot.with_name("replay.parquet")
    if not training.replay:
        return None
    if not replay.draw(snapshot, drawn, size=training.replay, seed=training.seed, earlier=earlier):
        return None
    key = candidate_key(run_key, "replay.parquet")
    resources.store.put_file(key, drawn)
    return resources.store.uri(key)


def _with_replayed(resources: Resources, snapshot: Path, earlier: list[Path]) -> Path:
    """A file of the snapshot's rows and after them what `earlier` windows kept; the snapshot itself without any."""
    from learning_engine.feedback import replay

    joined, fraction = snapshot.with_name("joined.parquet"), resources.settings.dataset.heldout_fraction
    return joined if earlier and replay.join(snapshot, earlier, joined, heldout_fraction=fraction) else snapshot


def _reservoirs(resources: Resources, parent: str | None, work: Path) -> list[Path]:
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


def _fit(
    resources: Resources,
    loaded: "Loaded",
    dataset: Dataset,
    fisher: FisherRecord,
    snapshot: Path,
    earlier: list[Path],
) -> TrainingMetrics:
    from learning_engine.feedback.dataset import encode
    from learning_engine.learning import checkpoint, ewc, memory, trainer

    settings, work = resources.settings, snapshot.parent
    rows = _with_replayed(resources, snapshot, earlier)
    replays = rows != snapshot
    encoded = encode(rows, loaded.tokenizer, settings.dataset, heldout=False)
    # What another try replayed may have been swept since: its checkpoints are of another training.
    checkpoints = f"checkpoints-{archive.sha256_file(rows)[:16]}/" if replays else "checkpoints/"
    guarded = fisher_step.load(resources, fisher, work / "fisher.safetensors") if fisher.uri else None
    resume = _checkpoint(resources, candidate_key(dataset.run_key, checkpoints), work)
    curve = checkpoint.curve(resume) if resume else []
    with progress.Reporter(resources.store, dataset.run_key, curve) as reporter:
        metrics = trainer.train(
            loaded,
            encoded.examples,
            ewc.around(loaded.model, guarded, settings.ewc.lambda_, kl_budget=settings.ewc.kl_budget),
            settings.training,
            workdir=work / "trainer",
            resume=resume,
            on_checkpoint=partial(_keep_checkpoint, resources, candidate_key(dataset.run_key, checkpoints)),
            on_log=reporter.tell,
        )
    return dataclasses.replace(
        metrics,
        dropped=encoded.dropped,
        replayed=sum(row >= dataset.rows for row in encoded.examples["row"]) if replays else 0,
        device_memory_bytes=memory.share_bytes(loaded.device, settings.worker.gpu_memory_fraction),
    )


def _checkpoint(resources: Resources, prefix: str, work: Path) -> Path | None:
    """The newest whole checkpoint below `prefix` in the bucket, unpacked; None for a fresh start."""
    from learning_engine.learning import checkpoint

    found = sorted(item.key for item in resources.store.list(prefix))
    if not found:
        return None
    packed, directory = work / "checkpoint.tar.gz", work / "checkpoint"
    try:
        resources.store.get_file(found[-1], packed)
        # The weights, and AdamW's two moments of each.
        archive.unpack(packed, directory, max_bytes=4 * resources.settings.serving.max_adapter_bytes)
        if absent := checkpoint.missing(directory):
            raise IntegrityError(f"Expected a whole checkpoint, found no {', '.join(absent)}.")
    except IntegrityError as error:
        telemetry.event("train.checkpoint_unreadable", checkpoint=resources.store.uri(found[-1]), error=str(error))
        return None
    telemetry.event("train.resumed", checkpoint=resources.store.uri(found[-1]))
    return directory


def _keep_checkpoint(resources: Resources, prefix: str, directory: Path) -> None:
    """Upload one checkpoint below `prefix` and drop the one before. A store that fails costs the checkpoint, and the
    training goes on."""
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


def _stage(resources: Resources, candidate: Candidate, packed: Path) -> None:
    """Archive, then record: the record is what a retry looks for."""
    try:
        resources.store.put_file(resources.store.key(candidate.uri), packed)
        resources.store.put_json(candidate_key(candidate.run_key, manifest.CANDIDATE), candidate.to_json())
    except StoreError as error:
        directory = _spool(resources, candidate.run_key)
        if packed.parent != directory:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packed, directory / ARCHIVE)
            (directory / manifest.CANDIDATE).write_text(json.dumps(candidate.to_json()))
        raise StoreError(
            f"{str(error).rstrip('.')}. The trained candidate is safe in {directory} on this worker; the next try on "
            "it continues there."
        ) from error


def _spool(resources: Resources, run_key: str) -> Path:
    store = resources.settings.store
    return Path(store.spool).expanduser() / store.bucket / store.prefix / run_key
