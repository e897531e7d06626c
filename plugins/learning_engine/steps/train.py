"""The task `train`: train a candidate on the snapshot under the EWC penalty, and stage it."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.records.contracts import Candidate, Dataset, FisherRecord, TrainingMetrics
from learning_engine.registry import card, manifest
from learning_engine.steps import checkpoints, disk, progress, reservoirs, spool, staging
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps.resources import Resources, get_staged, workspace

if TYPE_CHECKING:
    from learning_engine.learning.ewc import Penalty
    from learning_engine.learning.model import Loaded


def train(resources: Resources, dataset: Dataset, fisher: FisherRecord) -> Candidate:
    """Train the candidate and stage it under the run key; continues from the newest checkpoint in the bucket."""
    if candidate := staging.staged(resources, dataset.run_key):
        return candidate
    with telemetry.step("train", run_key=dataset.run_key, parent=dataset.parent) as result:
        candidate = staging.spooled(resources, dataset.run_key) or _train(resources, dataset, fisher)
        metrics = candidate.training
        result.update(task_loss=metrics.task_loss, ewc_loss=metrics.ewc_loss, steps=metrics.steps)
        return candidate


def _train(resources: Resources, dataset: Dataset, fisher: FisherRecord) -> Candidate:
    """Train, pack and stage. If the store fails, the error names the local directory that keeps the candidate."""
    from learning_engine.learning import memory, model

    settings = resources.settings
    memory.limit(settings.worker.gpu_memory_fraction)
    parent = resources.registry.get(dataset.parent) if dataset.parent else None
    with workspace() as work:
        snapshot = work / "dataset.parquet"
        get_staged(resources, dataset.uri, snapshot, dataset.sha256)
        earlier = reservoirs.fetch(resources, dataset.parent, work) if settings.training.replay else []
        reservoir = reservoirs.stage(resources, dataset.run_key, snapshot, earlier)
        # Before the model is loaded: writing an anchor that the bucket lacks takes a base model of its own.
        base = reservoirs.of_base(resources, work) if settings.training.replay else None
        loaded = fisher_step.load_trainable(resources, parent, work)
        _require_room(resources, loaded, fisher, snapshot)
        metrics = _fit(resources, loaded, dataset, fisher, snapshot, earlier, base)
        files = work / "candidate"
        model.save_adapter(loaded, files)
        (files / "README.md").write_text(card.archive_card(dataset, settings.model.base, resources.shape))
        packed = archive.pack(files, work / spool.ARCHIVE)
        candidate = Candidate(
            run_key=dataset.run_key,
            parent=dataset.parent,
            window=dataset.window,
            base_model=settings.model.base,
            base_revision=loaded.revision,
            lora=resources.shape,
            uri=resources.store.uri(manifest.run_key(dataset.run_key, spool.ARCHIVE)),
            sha256=packed.sha256,
            size=packed.size,
            ewc_lambda=metrics.ewc_lambda or 0.0,
            fisher=fisher,
            training=metrics,
            replay_uri=reservoir,
        )
        staging.stage(resources, candidate, work / spool.ARCHIVE)
        return candidate


def _require_room(resources: Resources, loaded: "Loaded", fisher: FisherRecord, snapshot: Path) -> None:
    """Raise NoRoom unless the disk has space for what training writes in addition to the snapshot."""
    from learning_engine.learning.model import lora_weights

    weights = sum(weight.numel() * weight.element_size() for weight in lora_weights(loaded.model).values())
    guarded = resources.store.head(resources.store.key(fisher.uri)).size if fisher.uri else 0
    # A checkpoint holds the weights, AdamW's two moments and the mean gradient for λ. Three coexist: the last one, the
    # next one and its archive.
    checkpoints, candidate = 3 * 4 * weights, 2 * weights
    needed = checkpoints + candidate + guarded + 2 * snapshot.stat().st_size
    disk.require(snapshot.parent, needed, what="checkpoints, Fisher information and the candidate of this training")


def _fit(
    resources: Resources,
    loaded: "Loaded",
    dataset: Dataset,
    fisher: FisherRecord,
    snapshot: Path,
    earlier: list[Path],
    base: Path | None,
) -> TrainingMetrics:
    from learning_engine.feedback.dataset import encode
    from learning_engine.learning import checkpoint, memory, trainer

    settings, work = resources.settings, snapshot.parent
    joined = reservoirs.joined(resources, dataset.run_key, snapshot, earlier, base)
    encoded = encode(joined.path, loaded.tokenizer, settings.dataset, heldout=False, to_train=True)
    rows = encoded.examples["row"][:]
    replayed = sum(row >= joined.first_replayed for row in rows)
    # Retention may have deleted rows that an earlier attempt replayed. Checkpoints are valid only for the same rows.
    prefix = manifest.run_key(
        dataset.run_key,
        "checkpoints/" if joined.path == snapshot else f"checkpoints-{archive.sha256_file(joined.path)[:16]}/",
    )
    penalty = _penalty(resources, loaded, fisher, work)
    resume = checkpoints.newest(resources, prefix, work)
    curve = checkpoint.curve(resume) if resume else []
    with progress.Reporter(resources.store, dataset.run_key, curve) as reporter:
        metrics = trainer.train(
            loaded,
            encoded.examples,
            penalty,
            settings.training,
            replayed=replayed,
            of_anchor=sum(row >= joined.first_of_anchor for row in rows),
            workdir=work / "trainer",
            resume=resume,
            on_checkpoint=partial(checkpoints.keep, resources, prefix),
            on_log=reporter.report,
        )
    return dataclasses.replace(
        metrics,
        dropped=encoded.dropped,
        replayed=replayed,
        device_memory_bytes=memory.share_bytes(loaded.device, settings.worker.gpu_memory_fraction),
    )


def _penalty(resources: Resources, loaded: "Loaded", fisher: FisherRecord, work: Path) -> "Penalty":
    """The EWC penalty, on the model's device. It copies the Fisher information, so that what was loaded is released."""
    from learning_engine.learning import ewc

    settings = resources.settings.ewc
    guarded = fisher_step.load(resources, fisher, work / "fisher.safetensors") if fisher.uri else None
    return ewc.anchored_penalty(loaded.model, guarded, settings.lambda_, progress=settings.progress)
