"""Log a training while it runs: losses, speed, remaining time, memory.

Losses are summed on the device and read once per logged interval. `hooks` reads those of each step, in one transfer,
because the step must not be taken if they are not finite.
"""

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import torch

CURVE_POINTS = 200


class TrainingLog:
    """Figures of one call of `trainer.train`. Task loss and EWC loss are separate, both per optimizer step."""

    def __init__(self, device: torch.device, *, steps: int, on_log: Callable[[dict[str, Any]], None]) -> None:
        self._device, self._steps, self._on_log = device, steps, on_log
        self._step = torch.zeros(2, device=device)
        self._interval = torch.zeros(2, device=device)
        self._last_step, self._logged_at = torch.zeros(2, device=device), 0
        self._began, self._utilisation = time.monotonic(), list[float]()
        self.started_at, self.tokens, self.supervised = 0, 0, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def start(self, step: int) -> None:
        """Start after `step` optimizer steps that an earlier attempt completed."""
        self.started_at = self._logged_at = step
        self._began = time.monotonic()

    def add(self, task: torch.Tensor, penalty: torch.Tensor) -> None:
        """Add one micro-batch's share of the current step's losses (detached scalars)."""
        self._step += torch.stack((task, penalty))

    def step_losses(self) -> torch.Tensor:
        """Task loss and EWC loss of the current step, (2,)."""
        return self._step

    def end_step(self) -> None:
        self._interval += self._step
        self._last_step.copy_(self._step)
        self._step.zero_()

    def log(self, step: int, learning_rate: float) -> dict[str, float]:
        """Report the mean losses since the last report, and return them for the curve."""
        task, penalty = (self._interval / max(1, step - self._logged_at)).tolist()
        self._interval.zero_()
        self._logged_at = step
        if (utilisation := gpu_utilisation(self._device)) is not None:
            self._utilisation.append(utilisation)
        seconds = self.seconds()
        self._on_log(
            {
                "step": step,
                "of": self._steps,
                "task_loss": task,
                "ewc_loss": penalty,
                "learning_rate": learning_rate,
                "tokens_per_second": round(self.tokens / seconds, 1),
                "eta_seconds": round((self._steps - step) * seconds / max(1, step - self.started_at), 1),
                "gpu_utilisation": utilisation,
                "peak_memory_bytes": peak_memory_bytes(self._device),
            }
        )
        return {"task_loss": task, "ewc_loss": penalty}

    def seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-9)

    def last_penalty(self) -> float:
        return float(self._last_step[1])

    def mean_utilisation(self) -> float | None:
        return sum(self._utilisation) / len(self._utilisation) if self._utilisation else None


def curve_of(history: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    """The points (step, task loss, EWC loss) from the log history of a transformers Trainer."""
    return [(point["step"], point["task_loss"], point["ewc_loss"]) for point in history if "task_loss" in point]


def thin(curve: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """At most CURVE_POINTS points (step, task loss, EWC loss), each the mean of a group of equal size."""
    width = math.ceil(len(curve) / CURVE_POINTS) or 1
    groups = [curve[start : start + width] for start in range(0, len(curve), width)]
    return [(group[-1][0], _mean(group, 1), _mean(group, 2)) for group in groups]


def _mean(group: list[tuple[int, float, float]], column: Literal[1, 2]) -> float:
    return sum(point[column] for point in group) / len(group)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory: what torch allocated on a GPU since training began, or what this process ever held in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_utilisation(device: torch.device) -> float | None:
    """Share of the last sample period in which a kernel ran, 0 to 1. None without a GPU or NVIDIA's NVML library."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except (ModuleNotFoundError, RuntimeError, ImportError):
        return None
