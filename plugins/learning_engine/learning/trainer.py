"""Training of the adapter: task loss + EWC penalty, minimised by AdamW.

A transformers.Trainer subclass, so that resuming, accumulation, precision, schedulers and trackers are the library's.
The task loss of an optimizer step is that of all its micro-batches together (see `objectives`); the penalty is added
once a step, with the last micro-batch. What the objective compares with is measured at the weights that `loaded` came
with, whatever checkpoint training goes on from.
"""

# ruff: noqa: ARG002 (the arguments are those of transformers.Trainer)

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from transformers import PrinterCallback, Trainer, TrainingArguments

from learning_engine import telemetry
from learning_engine.config import sections
from learning_engine.errors import TrainingError
from learning_engine.learning import checkpoint, memory
from learning_engine.learning.arguments import arguments_of, precision_of
from learning_engine.learning.batches import ByLength, Parts, Row, Rows, collate
from learning_engine.learning.ewc import Regulariser
from learning_engine.learning.hooks import Hooks
from learning_engine.learning.model import Loaded, check_trainable, lora_weights, save_adapter
from learning_engine.learning.objectives import Objective, choose
from learning_engine.learning.progress import Progress, curve_of, peak_memory_bytes, thin
from learning_engine.records.contracts import TrainingMetrics


def train(
    loaded: Loaded,
    examples: Any,
    penalty: Regulariser,
    training: sections.Training,
    *,
    workdir: Path,
    resume: Path | None,
    on_checkpoint: Callable[[Path], None] | None,
    on_log: Callable[[dict[str, Any]], None],
) -> TrainingMetrics:
    """Train the adapter of `loaded` in place and leave the model in eval mode.

    `on_log` gets the fields of TrainingProgress but curve and updated_at every `log_steps` and at the last step;
    `on_checkpoint` each whole checkpoint's directory, which lies under `workdir` until the next one replaces it.
    `resume` is such a directory, wherever it lies now; training goes on as if it had never stopped. The last step is
    no checkpoint: what follows it is the candidate. Tokens, seconds and peak memory are those of this call; task_loss
    is the mean over the last logged interval. The same seed gives the same losses.

    Where memory runs out, training goes on from its last checkpoint with each batch in twice as many parts: the rows
    of a step stay the same, and `notes` says what to set.

    Raises TrainingError where nothing is supervised, a loss or gradient is not finite, or `resume` does not fit;
    OutOfMemory where a single row is too many; ModelError where other weights than the adapter's are trainable.
    """
    weights = lora_weights(loaded.model)
    check_trainable(loaded.model, expected=set(weights))
    rows = Rows(examples)
    begun, strength = (
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
                weight.copy_(begun[name])
        penalty.strength.restore(strength)
        parts, goes_on = math.ceil(training.batch_size / at_once), saved[0] if saved else resume
        metrics = _attempt(loaded, rows, penalty, training, parts, workdir, goes_on, keep, on_log)
        return (
            metrics if parts == 1 else dataclasses.replace(metrics, notes=[*metrics.notes, _in_parts(training, parts)])
        )

    return memory.shrinking(
        attempt,
        batch_size=training.batch_size,
        what=f"train on rows of up to {rows.lengths.max(initial=0)} tokens",
        advice=(
            f"Set training.batch_size to 1 and training.gradient_accumulation to "
            f"{training.batch_size * training.gradient_accumulation}, with training.gradient_checkpointing; or lower "
            "dataset.max_tokens, or set model.quantization."
        ),
    )


def _attempt(
    loaded: Loaded,
    rows: Rows,
    penalty: Regulariser,
    training: sections.Training,
    parts: int,
    workdir: Path,
    resume: Path | None,
    on_checkpoint: Callable[[Path], None],
    on_log: Callable[[dict[str, Any]], None],
) -> TrainingMetrics:
    """One training of `train`, each batch as `parts` micro-batches."""
    useful = np.flatnonzero(rows.weights * rows.supervised > 0)
    if not len(useful):
        raise TrainingError(f"Expected examples with supervised tokens and a weight, found none among {len(rows)}")
    batches = math.ceil(len(useful) / training.batch_size)
    steps = math.ceil(training.epochs * math.ceil(batches / training.gradient_accumulation))
    penalty.strength.begin(steps)
    if resume is not None:
        checkpoint.check(resume, steps=steps)
        penalty.strength.restore(checkpoint.strength(resume))
    precision = precision_of(training, loaded.device)
    objective = choose(training, rows_at_once=math.ceil(training.batch_size / parts))
    progress = Progress(loaded.device, steps=steps, on_log=on_log)
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        trainer = AdapterTrainer(
            loaded,
            Subset(rows, useful.tolist()),
            Parts(
                ByLength(rows.lengths[useful], batch_size=training.batch_size, seed=training.seed),
                batch_size=training.batch_size,
                parts=parts,
            ),
            objective,
            penalty,
            progress,
            training=training,
            args=arguments_of(training, loaded.device, precision, steps=steps, parts=parts, workdir=workdir),
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
        ewc_loss=progress.last_penalty(),
        ewc_lambda=penalty.strength.state()["lambda"],
        predicted_kl=penalty.predicted_kl(loaded.model),
        steps=trainer.state.global_step,
        examples=len(useful),
        dropped={},
        tokens=progress.tokens,
        supervised_tokens=progress.supervised,
        seconds=progress.seconds(),
        tokens_per_second=progress.tokens / progress.seconds(),
        peak_memory_bytes=peak_memory_bytes(loaded.device),
        gpu_utilisation=progress.mean_utilisation(),
        device=str(loaded.device),
        precision=precision,
        resumed_at_step=progress.started_at,
        curve=curve,
        notes=warnings,
    )


def _in_parts(training: sections.Training, parts: int) -> str:
    at_once, accumulation = math.ceil(training.batch_size / parts), training.gradient_accumulation * parts
    return (
        f"Out of memory at training.batch_size {training.batch_size}: each batch ran in {parts} parts, the same rows a "
        f"step. With training.batch_size {at_once} and gradient_accumulation {accumulation} it fits at once."
    )


class AdapterTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our objective, batches by length, and checkpoints that hold the adapter alone."""

    def __init__(
        self,
        loaded: Loaded,
        rows: Subset[Row],
        batches: Parts,
        objective: Objective,
        penalty: Regulariser,
        progress: Progress,
        *,
        training: sections.Training,
        args: TrainingArguments,
        on_checkpoint: Callable[[Path], None],
    ) -> None:
        self._loaded, self._batches, self._progress = loaded, batches, progress
        self._objective, self._penalty = objective, penalty
        self._checkpointing = training.gradient_checkpointing
        hooks = Hooks(loaded, progress, on_checkpoint)
        super().__init__(model=loaded.model, args=args, train_dataset=rows, data_collator=collate, callbacks=[hooks])
        self.remove_callback(PrinterCallback)
        # compute_loss divides by the whole step's scale itself.
        self.loss_is_scaled_for_ga = True

    def get_train_dataloader(self) -> DataLoader[Row]:
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=collate,
            pin_memory=self.args.device.type == "cuda",
        )
        prepared: DataLoader[Row] = self.accelerator.prepare(loader)
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], float]:
        """The micro-batches of one optimizer step, and what their summed losses are divided by."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self._progress.tokens += sum(batch["tokens"] for batch in batches)
        self._progress.supervised += sum(batch["supervised"] for batch in batches)
        return batches, self._objective.begin_step(self.model, batches)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        task: torch.Tensor = self._objective(model, inputs) / num_items_in_batch
        penalty = self._penalty(self.model) if self.accelerator.sync_gradients else torch.zeros_like(task)
        self._progress.add(task.detach(), penalty.detach())
        return task + penalty

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not reported; the Trainer's count walks over every weight at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._progress.log(self.state.global_step, logs["learning_rate"]))
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        directory = Path(output_dir or self.args.output_dir)
        save_adapter(self._loaded, directory)
        (directory / checkpoint.STRENGTH).write_text(json.dumps(self._penalty.strength.state()))

    def leave_model_as_found(self) -> None:
        """Take autocast and gradient checkpointing off again, drop the gradients, and return to eval mode."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self._checkpointing:
            model.gradient_checkpointing_disable()
        model.zero_grad()
        model.eval()
