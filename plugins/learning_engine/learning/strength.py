"""λ, the strength of the EWC penalty: fixed, or at each step the largest that still lets the window be learned.

At a stationary point of task loss + λ q, with q = ½ dᵀF d, the penalty cancels the task's gradient: nothing more is
learned, however much is left to learn. With g the gradient of the task loss and h that of q, a step along
−(g + λ h) makes, to first order, the share
  1 + λ ⟨g, h⟩ / ‖g‖²
of the progress on the task that a step along −g makes. `Progress` sets λ to the largest value that leaves the share
`progress`. It lowers λ as the task's gradient vanishes, so that training ends where the window is learned, on a path
along which the penalty always had its share. λ does not depend on the scale of the loss or of F.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import torch

State = Mapping[str, torch.Tensor]
INITIAL_LAMBDA, MIN_LAMBDA, MAX_LAMBDA = 300.0, 1.0, 1e5
# Weight of a step's own gradient in the mean gradient, and of a step's own λ in the mean of log λ. A gradient of one
# batch is mostly noise, which would pass for progress.
NEW_GRADIENT, NEW_LAMBDA = 0.1, 0.2
# A step on which the noise hides that the penalty opposes the task asks for any λ; it gets at most this many times the
# last one.
MOST_GROWTH = 10.0


class Strength(Protocol):
    """The factor λ of the penalty's quadratic."""

    def __call__(self, task: torch.Tensor, quadratic: torch.Tensor) -> torch.Tensor:
        """λ for this step, a scalar, given the gradients (P,) of the task loss and of q by the P weights."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """`lambda`, that of the last step, and whatever else a resumed training needs."""
        ...

    def restore(self, state: State) -> None:
        """Continue from `state`."""

    def note(self) -> str | None:
        """What a reader of the report needs to know about λ; None if it is what was configured."""


class Fixed:
    """A constant λ."""

    def __init__(self, value: float) -> None:
        self._value = torch.tensor(value)

    def __call__(self, task: torch.Tensor, quadratic: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self._value.to(quadratic)

    def state(self) -> dict[str, torch.Tensor]:
        return {"lambda": self._value}

    def restore(self, state: State) -> None:
        """Do nothing: a constant has no state."""

    def note(self) -> str | None:
        return None


class Progress:
    """The largest λ, from MIN_LAMBDA to MAX_LAMBDA, that leaves the share `progress` of each step's progress."""

    def __init__(self, progress: float) -> None:
        self._allowed = 1 - progress
        initial = torch.tensor(math.log(INITIAL_LAMBDA))
        self._state = {"log": initial, "steps": torch.zeros(()), "lowest": initial, "highest": initial}

    def __call__(self, task: torch.Tensor, quadratic: torch.Tensor) -> torch.Tensor:
        # Computed on the device: each of these numbers, read by itself, would make the step wait once more.
        state = {"gradient": torch.zeros_like(task), **self._state}
        state = {name: value.to(task.device) for name, value in state.items()}
        steps, mean = state["steps"] + 1, state["gradient"].lerp(task, NEW_GRADIENT)
        gradient = mean / (1 - (1 - NEW_GRADIENT) ** steps)
        opposed = -gradient.dot(quadratic)
        largest = torch.where(opposed > 0, self._allowed * gradient.dot(gradient) / opposed, MAX_LAMBDA)
        largest = torch.minimum(largest, MOST_GROWTH * state["log"].exp()).clamp(MIN_LAMBDA, MAX_LAMBDA)
        log = state["log"].lerp(largest.log(), NEW_LAMBDA)
        # At the first step nothing has moved, so every λ leaves all progress.
        log = torch.where(steps > 1, log, state["log"])
        lowest, highest = torch.minimum(state["lowest"], log), torch.maximum(state["highest"], log)
        new = {"log": log, "steps": steps, "gradient": mean, "lowest": lowest, "highest": highest}
        # In fp16 the gradient of a step that the optimizer will skip is not finite.
        usable = task.isfinite().all()
        self._state = {name: torch.where(usable, value, state[name]) for name, value in new.items()}
        return self._state["log"].exp()

    def state(self) -> dict[str, torch.Tensor]:
        return {"lambda": self._state["log"].exp(), **self._state}

    def restore(self, state: State) -> None:
        self._state = {name: value for name, value in state.items() if name != "lambda"}

    def note(self) -> str | None:
        lowest, highest, last = (float(self._state[name].exp()) for name in ("lowest", "highest", "log"))
        found = f"ewc.lambda auto: λ was between {lowest:.3g} and {highest:.3g}, and {last:.3g} at the last step."
        # The mean of log λ only approaches a bound.
        if lowest < 1.05 * MIN_LAMBDA:
            return f"{found} It reached its lower bound: learning this window left earlier versions hardly protected."
        if last > 0.95 * MAX_LAMBDA:
            return f"{found} It reached its upper bound: the penalty never slowed the learning of this window."
        return found
