"""The optimizer steps of a training: transformers.Trainer with our objective, penalty and batches.

The Trainer handles resuming, gradient accumulation, precision, schedulers and trackers. The task loss of a step is
taken over all its micro-batches together (see `objectives`); the penalty's gradient is added once per step, after the
last micro-batch.
"""

# ruff: noqa: ARG002 (the arguments are those of transformers.Trainer)

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from transformers import PrinterCallback, Trainer, TrainingArguments

from learning_engine.config import sections
from learning_engine.learning import checkpoint
from learning_engine.learning.batches import MicroBatchSampler, Row, collate
from learning_engine.learning.ewc import Penalty
from learning_engine.learning.hooks import Hooks
from learning_engine.learning.model import Loaded, save_adapter
from learning_engine.learning.objectives import Objective
from learning_engine.learning.training_log import TrainingLog


class AdapterTrainer(Trainer):  # type: ignore[misc]
    """A Trainer with our objective and penalty, batches grouped by length, and checkpoints of the adapter only."""

    def __init__(
        self,
        loaded: Loaded,
        rows: Subset[Row],
        batches: MicroBatchSampler,
        objective: Objective,
        penalty: Penalty,
        training_log: TrainingLog,
        *,
        training: sections.Training,
        args: TrainingArguments,
        on_checkpoint: Callable[[Path], None],
    ) -> None:
        self._loaded, self._batches, self._training_log = loaded, batches, training_log
        self._objective, self._penalty = objective, penalty
        self._checkpointing = training.gradient_checkpointing
        hooks = Hooks(loaded, training_log, on_checkpoint)
        super().__init__(model=loaded.model, args=args, train_dataset=rows, data_collator=collate, callbacks=[hooks])
        self.remove_callback(PrinterCallback)
        # compute_loss already divides by the scale of the whole step.
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
        """The micro-batches of one optimizer step, and the divisor of their summed losses."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self._training_log.tokens += sum(batch["tokens"] for batch in batches)
        self._training_log.supervised += sum(batch["supervised"] for batch in batches)
        return batches, self._objective.begin_step(self.model, batches)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        task: torch.Tensor = self._objective(model, inputs) / num_items_in_batch
        self._training_log.add(task.detach(), torch.zeros_like(task))
        return task

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        task: torch.Tensor = super().training_step(*arguments, **named)
        if self.accelerator.sync_gradients:
            scaler = self.accelerator.scaler
            penalty = self._penalty.add_gradient(self.model, scale=scaler.get_scale() if scaler else 1.0)
            self._training_log.add(torch.zeros_like(penalty), penalty)
        return task

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0 instead of counting: the Trainer's count visits every weight at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._training_log.log(self.state.global_step, logs["learning_rate"]))
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        directory = Path(output_dir or self.args.output_dir)
        save_adapter(self._loaded, directory)
        checkpoint.save_strength(self._penalty.strength.state(), directory)

    def leave_model_as_found(self) -> None:
        """Remove autocast and gradient checkpointing, drop the gradients, and return to eval mode."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self._checkpointing:
            model.gradient_checkpointing_disable()
        model.zero_grad()
        model.eval()
