"""λ, how firmly the penalty holds: a number, or found while training so that a KL budget is met.

The quadratic q = ½ dᵀF d predicts the KL from the guarded versions to the model, in nats per token, summed over them
(with smoothed labels: of the smoothed distributions).
For a budget b on it the task loss is minimised under q ≤ b: λ is the constraint's multiplier, found by a PI controller
on log λ (dual ascent with a proportional term, Stooke et al. 2020): with e = log(q / b), bounded to ±1,
  log λ ← log λ + P (e − e_before) + I e
once an optimizer step. I is such that λ can cross its whole range in a third of the training.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import torch

START, LEAST, GREATEST = 200.0, 1e-2, 1e6
PROPORTIONAL, TRAVERSE = 1.0, 3.0


class Strength(Protocol):
    """What the penalty multiplies its quadratic with."""

    def begin(self, steps: int) -> None:
        """A training of `steps` optimizer steps begins."""

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        """The λ of this step, given q at its weights; a scalar on its device."""
        ...

    def state(self) -> dict[str, float]:
        """λ, and what else a resumed training goes on from."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from `state`."""


class Fixed:
    """A λ that stays."""

    def __init__(self, value: float) -> None:
        self.value = value

    def begin(self, steps: int) -> None:
        """Nothing depends on it."""

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        return torch.full_like(quadratic, self.value)

    def state(self) -> dict[str, float]:
        return {"lambda": self.value}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing changes while training."""


class Budget:
    """q ends near `budget` nats per token, or below it with λ near 0."""

    def __init__(self, budget: float) -> None:
        self._budget, self._integral = budget, 0.0
        self._log_lambda = torch.tensor(math.log(START))
        self._error = torch.tensor(-1.0)

    def begin(self, steps: int) -> None:
        self._integral = TRAVERSE * math.log(GREATEST / LEAST) / steps

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        # On the device, so that a step does not wait for it.
        self._log_lambda, before = self._log_lambda.to(quadratic.device), self._error.to(quadratic.device)
        self._error = (quadratic / self._budget).clamp_min(1e-9).log().clamp(-1, 1)
        change = PROPORTIONAL * (self._error - before) + self._integral * self._error
        self._log_lambda = (self._log_lambda + change).clamp(math.log(LEAST), math.log(GREATEST))
        return self._log_lambda.exp()

    def state(self) -> dict[str, float]:
        return {"lambda": math.exp(float(self._log_lambda)), "error": float(self._error)}

    def restore(self, state: Mapping[str, float]) -> None:
        self._log_lambda, self._error = torch.tensor(math.log(state["lambda"])), torch.tensor(state["error"])
