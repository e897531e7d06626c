"""Training checkpoints: the adapter's two files, λ and its state, and the state of the transformers Trainer.

The Trainer writes optimizer.pt, scheduler.pt, rng_state.pth (and scaler.pt in fp16) with torch.save, and reads them
back with `weights_only=True`, so that no code in a checkpoint runs. training_args.bin, a plain pickle, is not written.
trainer_state.json is written last; a checkpoint without it is incomplete.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from learning_engine.errors import TrainingError
from learning_engine.learning import adapter
from learning_engine.learning.training_log import curve_of

STATE, STRENGTH = "trainer_state.json", "ewc.safetensors"
FILES = (adapter.WEIGHTS, adapter.CONFIG, STRENGTH, "optimizer.pt", "scheduler.pt", "rng_state.pth", STATE)


def missing(directory: Path) -> list[str]:
    """The files that a complete checkpoint has and `directory` lacks."""
    return [name for name in FILES if not (directory / name).is_file()]


def check(directory: Path, *, steps: int) -> None:
    """Raise TrainingError unless `directory` is a complete checkpoint of a training of `steps` optimizer steps."""
    if absent := missing(directory):
        raise TrainingError(
            f"Expected a complete checkpoint in {directory}, found no {', '.join(absent)}: restart the training"
        )
    if (found := _read(directory, STATE).get("max_steps")) != steps:
        raise TrainingError(
            f"Expected a checkpoint of a training of {steps} steps in {directory}, found one of {found}: restart the "
            "training, because it belongs to other data or another configuration"
        )


def save_strength(state: Mapping[str, torch.Tensor], directory: Path) -> None:
    """Write λ and the state that determines the next one."""
    safetensors.torch.save_file(dict(state), directory / STRENGTH)


def strength(directory: Path) -> dict[str, torch.Tensor]:
    """What `save_strength` wrote. Raises TrainingError if it is unreadable."""
    try:
        return dict(safetensors.torch.load_file(directory / STRENGTH))
    except (OSError, SafetensorError) as error:
        raise _unreadable(directory, STRENGTH, error) from error


def curve(directory: Path) -> list[tuple[int, float, float]]:
    """The points (step, task loss, EWC loss) of the training up to the checkpoint."""
    return curve_of(_read(directory, STATE).get("log_history", []))


def _read(directory: Path, name: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(directory, name, error) from error
    return state


def _unreadable(directory: Path, name: str, error: Exception) -> TrainingError:
    return TrainingError(f"Expected a readable {name} in the checkpoint {directory}, found an error: {error}")
