"""Trainer callbacks: check losses and gradients before an optimizer step; log and save after it."""

# ruff: noqa: ARG002 (the arguments are those of transformers.TrainerCallback)

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from learning_engine.errors import TrainingError
from learning_engine.learning.model import Loaded, lora_weights
from learning_engine.learning.training_log import TrainingLog


class Hooks(TrainerCallback):  # type: ignore[misc]
    """Stops before a step whose loss or gradient is not finite; decides at which steps to log and save."""

    def __init__(self, loaded: Loaded, training_log: TrainingLog, on_checkpoint: Callable[[Path], None]) -> None:
        self._weights = list(lora_weights(loaded.model).values())
        self._training_log, self._on_checkpoint = training_log, on_checkpoint

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._training_log.start(state.global_step)

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        figures = self._training_log.step_losses()
        if not args.fp16:  # With fp16, the gradient scaler skips such steps while it finds its scale.
            gradients = [weight.grad for weight in self._weights if weight.grad is not None]
            figures = torch.cat([figures, torch.nn.utils.get_total_norm(gradients)[None]])
        found = dict(zip(("task loss", "EWC loss", "gradient norm"), figures.tolist(), strict=False))
        if wrong := [f"{name} {value}" for name, value in found.items() if not math.isfinite(value)]:
            raise TrainingError(
                f"Expected a finite loss and gradient at step {state.global_step + 1}, found {', '.join(wrong)}: lower "
                f"training.learning_rate or ewc.lambda, or train in a wider precision. The weights are those of step "
                f"{state.global_step}"
            )

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._training_log.end_step()
        if state.global_step >= state.max_steps:
            control.should_log, control.should_save = True, False
        # Logging at every save gives a resumed training the same intervals as an uninterrupted one.
        control.should_log = control.should_log or control.should_save

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._on_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
