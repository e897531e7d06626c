"""Training of the adapter: task loss + EWC penalty, minimised by AdamW.

A transformers.Trainer subclass, so that resuming, accumulation, precision, schedulers and trackers are the library's.
The task loss of an optimizer step is that of all its micro-batches together (see `objectives`); the penalty is added
once a step, with the last micro-batch. What the objective compares with is measured at the weights that `loaded` came
with, whatever checkpoint training goes on from.
"""

# ruff: noqa: ARG002 (the arguments are those of transformers.Trainer)

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

from learning_engine import sections, telemetry
from learning_engine.contracts import TrainingMetrics
from learning_engine.errors import TrainingError
from learning_engine.learning import checkpoint
from learning_engine.learning.batches import ByLength, Row, Rows, collate
from learning_engine.learning.ewc import Regulariser
from learning_engine.learning.hooks import Hooks
from learning_engine.learning.model import Loaded, check_trainable, lora_weights, save_adapter
from learning_engine.learning.objectives import Objective, choose
from learning_engine.learning.progress import Progress, peak_memory_bytes, thin


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

    `on_log` gets step, of, task_loss, ewc_loss, learning_rate, tokens_per_second and eta_seconds every `log_steps`;
    `on_checkpoint` each whole checkpoint's directory, which lies under `workdir` until the next one replaces it.
    `resume` is such a directory, wherever it lies now; training goes on as if it had never stopped. The last step is
    no checkpoint: what follows it is the candidate. Tokens, seconds and peak memory are those of this call; task_loss
    is the mean over the last logged interval. The same seed gives the same losses.

    Raises TrainingError where nothing is supervised, a loss or gradient is not finite, or `resume` does not fit;
    ModelError where other weights than the adapter's are trainable.
    """
    check_trainable(loaded.model, expected=set(lora_weights(loaded.model)))
    rows = Rows(examples)
    useful = np.flatnonzero(rows.weights * rows.supervised > 0)
    if not len(useful):
        raise TrainingError(f"Expected examples with supervised tokens and a weight, found none among {len(rows)}")
    batches = math.ceil(len(useful) / training.batch_size)
    steps = math.ceil(training.epochs * math.ceil(batches / training.gradient_accumulation))
    penalty.strength.begin(steps)
    if resume is not None:
        checkpoint.check(resume, steps=steps)
        penalty.strength.restore(checkpoint.strength(resume))
    precision = _precision(training, loaded.device)
    objective, progress = choose(training), Progress(loaded.device, steps=steps, on_log=on_log)
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        trainer = AdapterTrainer(
            loaded,
            Subset(rows, useful.tolist()),
            ByLength(rows.lengths[useful], batch_size=training.batch_size, seed=training.seed),
            objective,
            penalty,
            progress,
            training=training,
            args=_arguments(training, loaded.device, precision, steps=steps, workdir=workdir),
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
    curve = thin([(p["step"], p["task_loss"], p["ewc_loss"]) for p in trainer.state.log_history if "task_loss" in p])
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


class AdapterTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our objective, batches by length, and checkpoints that hold the adapter alone."""

    def __init__(
        self,
        loaded: Loaded,
        rows: Subset[Row],
        sampler: ByLength,
        objective: Objective,
        penalty: Regulariser,
        progress: Progress,
        *,
        training: sections.Training,
        args: TrainingArguments,
        on_checkpoint: Callable[[Path], None] | None,
    ) -> None:
        self._loaded, self._sampler, self._progress = loaded, sampler, progress
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
            batch_size=self.args.train_batch_size,
            sampler=self._sampler,
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


def _precision(training: sections.Training, device: torch.device) -> str:
    if training.precision != "auto":
        if training.precision == "fp16" and device.type != "cuda":
            raise TrainingError(
                "training.precision 'fp16' needs a CUDA device: use 'auto', 'bf16' or 'fp32' on this worker"
            )
        return training.precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _arguments(
    training: sections.Training, device: torch.device, precision: str, *, steps: int, workdir: Path
) -> TrainingArguments:
    checkpointing: dict[str, Any] = {}
    if training.gradient_checkpointing:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    arguments = TrainingArguments(
        output_dir=str(workdir),
        max_steps=steps,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=training.seed,
        logging_steps=training.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        save_total_limit=1,
        eval_strategy="no",
        report_to=list(training.report_to) or "none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        **checkpointing,
    )
    # One process trains on one device; with several visible the Trainer would wrap the model in DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
