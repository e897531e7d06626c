"""Train the adapter: minimise task loss + EWC penalty with AdamW.

The objective takes its reference from the weights that `loaded` starts with, even if training resumes from a
checkpoint.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from learning_engine import telemetry
from learning_engine.config import sections
from learning_engine.errors import TrainingError
from learning_engine.learning import checkpoint, memory
from learning_engine.learning.adapter_trainer import AdapterTrainer
from learning_engine.learning.arguments import arguments_of, precision_of
from learning_engine.learning.batches import LengthGroupedSampler, MicroBatchSampler, Rows
from learning_engine.learning.ewc import Penalty
from learning_engine.learning.model import Loaded, check_trainable, lora_weights
from learning_engine.learning.objectives import choose
from learning_engine.learning.replayed import Replayed
from learning_engine.learning.training_log import TrainingLog, curve_of, peak_memory_bytes, thin
from learning_engine.records.contracts import TrainingMetrics


def train(
    loaded: Loaded,
    examples: Any,
    penalty: Penalty,
    training: sections.Training,
    *,
    replayed: int = 0,
    of_anchor: int = 0,
    workdir: Path,
    resume: Path | None,
    on_checkpoint: Callable[[Path], None] | None,
    on_log: Callable[[dict[str, Any]], None],
) -> TrainingMetrics:
    """Train the adapter of `loaded` in place and leave the model in eval mode.

    The last `replayed` of the examples are old rows, of which the last `of_anchor` are the anchor's. They make up
    `training.replay` of each epoch, or as much of it as `replayed.Replayed` allows, which `notes` then says.
    `on_log` receives the fields of TrainingProgress except curve and updated_at, every `log_steps` and at the last
    step. `on_checkpoint` receives the directory of each complete checkpoint; it stays under `workdir` until the next
    one replaces it. `resume` is such a directory, anywhere; training continues as if it had never stopped. The last
    step writes no checkpoint, because the candidate replaces it. Tokens, seconds and peak memory cover this call only;
    task_loss is the mean over the last logged interval. Equal seeds give equal losses.

    If memory runs out, training resumes from its last checkpoint with each batch in twice as many micro-batches. The
    rows of a step stay the same, and `notes` says which settings avoid this.

    Raises TrainingError if no token is supervised, a loss or gradient is not finite, or `resume` does not fit;
    OutOfMemory if a single row does not fit; ModelError if weights other than the adapter's are trainable.
    """
    weights = lora_weights(loaded.model)
    check_trainable(loaded.model, expected=set(weights))
    rows = Rows(examples)
    initial_weights, initial_strength = (
        {name: weight.detach().cpu().clone() for name, weight in weights.items()},
        penalty.strength.state(),
    )
    saved: list[Path] = []

    def keep(directory: Path) -> None:
        saved[:] = [directory]
        if on_checkpoint is not None:
            on_checkpoint(directory)

    def attempt(at_once: int) -> TrainingMetrics:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(initial_weights[name])
        penalty.strength.restore(initial_strength)
        parts, resume_from = math.ceil(training.batch_size / at_once), saved[0] if saved else resume
        metrics = _attempt(
            loaded, rows, replayed, of_anchor, penalty, training, parts, workdir, resume_from, keep, on_log
        )
        return (
            metrics
            if parts == 1
            else dataclasses.replace(metrics, notes=[*metrics.notes, _memory_note(training, parts)])
        )

    return memory.retry_with_smaller_batches(
        attempt,
        batch_size=training.batch_size,
        what=f"train on rows of up to {rows.lengths.max(initial=0)} tokens",
        advice=(
            f"Set training.batch_size to 1 and training.gradient_accumulation to "
            f"{training.batch_size * training.gradient_accumulation}, and enable training.gradient_checkpointing; or "
            "lower dataset.max_tokens, or set model.quantization."
        ),
    )


def _attempt(
    loaded: Loaded,
    rows: Rows,
    replayed: int,
    of_anchor: int,
    penalty: Penalty,
    training: sections.Training,
    parts: int,
    workdir: Path,
    resume: Path | None,
    on_checkpoint: Callable[[Path], None],
    on_log: Callable[[dict[str, Any]], None],
) -> TrainingMetrics:
    """One attempt of `train`, with each batch split into `parts` micro-batches."""
    useful = np.flatnonzero(rows.weights * rows.supervised > 0)
    if not len(useful):
        raise TrainingError(
            f"Expected examples with supervised tokens and a weight above 0, found none among {len(rows)}"
        )
    old = _replayed(useful, len(rows) - replayed, len(rows) - of_anchor, training)
    order = LengthGroupedSampler(rows.lengths[useful], batch_size=training.batch_size, seed=training.seed, replayed=old)
    batches = math.ceil(len(order) / training.batch_size)
    steps = math.ceil(training.epochs * math.ceil(batches / training.gradient_accumulation))
    if resume is not None:
        checkpoint.check(resume, steps=steps)
        penalty.strength.restore(checkpoint.strength(resume))
    precision = precision_of(training, loaded.device)
    objective = choose(training, rows_at_once=math.ceil(training.batch_size / parts))
    training_log = TrainingLog(loaded.device, steps=steps, on_log=on_log)
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        trainer = AdapterTrainer(
            loaded,
            Subset(rows, useful.tolist()),
            MicroBatchSampler(order, batch_size=training.batch_size, parts=parts),
            objective,
            penalty,
            training_log,
            training=training,
            args=arguments_of(
                training,
                loaded.device,
                precision,
                width=loaded.model.config.get_text_config().hidden_size,
                steps=steps,
                parts=parts,
                workdir=workdir,
            ),
            on_checkpoint=on_checkpoint,
        )
        with trainer.accelerator.autocast():
            warnings = objective.prepare(loaded, rows, useful)
        for warning in warnings:
            telemetry.warning("train.warning", warning=warning)
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        finally:
            trainer.leave_model_as_found()
    curve = thin(curve_of(trainer.state.log_history))
    return TrainingMetrics(
        task_loss=curve[-1][1],
        ewc_loss=training_log.last_penalty(),
        ewc_lambda=float(penalty.strength.state()["lambda"]),
        steps=trainer.state.global_step,
        examples=len(useful),
        dropped={},
        tokens=training_log.tokens,
        supervised_tokens=training_log.supervised,
        seconds=training_log.seconds(),
        tokens_per_second=training_log.tokens / training_log.seconds(),
        peak_memory_bytes=peak_memory_bytes(loaded.device),
        gpu_utilisation=training_log.mean_utilisation(),
        device=str(loaded.device),
        precision=precision,
        resumed_at_step=training_log.started_at,
        curve=curve,
        notes=[*warnings, *(note for note in (old.note(), penalty.strength.note()) if note)],
    )


def _replayed(useful: np.ndarray, first: int, first_of_anchor: int, training: sections.Training) -> Replayed:
    """Counts the `useful` rows of each kind: the window's, then from row `first` old ones."""
    return Replayed(
        own=int((useful < first).sum()),
        of_windows=int(((useful >= first) & (useful < first_of_anchor)).sum()),
        of_anchor=int((useful >= first_of_anchor).sum()),
        share=training.replay,
        epochs=math.ceil(training.epochs),
    )


def _memory_note(training: sections.Training, parts: int) -> str:
    at_once, accumulation = math.ceil(training.batch_size / parts), training.gradient_accumulation * parts
    return (
        f"Out of memory at training.batch_size {training.batch_size}: each batch ran as {parts} micro-batches, with "
        f"the same rows a step. To avoid this, set training.batch_size {at_once} and gradient_accumulation "
        f"{accumulation}."
    )
