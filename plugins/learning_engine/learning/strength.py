"""λ, the strength of the EWC penalty: fixed, or adjusted during training to meet a KL budget.

The quadratic q = ½ dᵀF d predicts the KL from the protected versions to the model, in nats per token, summed over the
versions (with smoothed labels: the KL of the smoothed distributions).
With a budget b, training minimises the task loss subject to q ≤ b. λ is the Lagrange multiplier, found by a PI
controller on log λ (dual ascent with a proportional term, Stooke et al. 2020). With e = log(q / b), clipped to ±1,
  log λ ← log λ + P (e − e_before) + I e
once per optimizer step. I is chosen so that λ can traverse its whole range in a third of the training.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import torch

INITIAL_LAMBDA, MIN_LAMBDA, MAX_LAMBDA = 200.0, 1e-2, 1e6
PROPORTIONAL_GAIN, RANGE_TRAVERSALS = 1.0, 3.0


class Strength(Protocol):
    """The factor λ of the penalty's quadratic."""

    def begin(self, steps: int) -> None:
        """Start a training of `steps` optimizer steps."""

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        """λ for this step, given q at the current weights: a scalar on the device of q."""
        ...

    def state(self) -> dict[str, float]:
        """λ and any other state that a resumed training needs."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from `state`."""


class FixedStrength:
    """A constant λ."""

    def __init__(self, value: float) -> None:
        self.value = value

    def begin(self, steps: int) -> None:
        """Do nothing: a constant does not depend on the number of steps."""

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        return torch.full_like(quadratic, self.value)

    def state(self) -> dict[str, float]:
        return {"lambda": self.value}

    def restore(self, state: Mapping[str, float]) -> None:
        """Do nothing: a constant has no state."""


class BudgetController:
    """Adjusts λ so that q ends near `budget` nats per token, or below it with λ at its minimum."""

    def __init__(self, budget: float) -> None:
        self._budget, self._integral = budget, 0.0
        self._log_lambda = torch.tensor(math.log(INITIAL_LAMBDA))
        self._error = torch.tensor(-1.0)

    def begin(self, steps: int) -> None:
        self._integral = RANGE_TRAVERSALS * math.log(MAX_LAMBDA / MIN_LAMBDA) / steps

    def __call__(self, quadratic: torch.Tensor) -> torch.Tensor:
        # Computed on the device, so that a step does not wait for a transfer.
        self._log_lambda, before = self._log_lambda.to(quadratic.device), self._error.to(quadratic.device)
        self._error = (quadratic / self._budget).clamp_min(1e-9).log().clamp(-1, 1)
        change = PROPORTIONAL_GAIN * (self._error - before) + self._integral * self._error
        self._log_lambda = (self._log_lambda + change).clamp(math.log(MIN_LAMBDA), math.log(MAX_LAMBDA))
        return self._log_lambda.exp()

    def state(self) -> dict[str, float]:
        return {"lambda": math.exp(float(self._log_lambda)), "error": float(self._error)}

    def restore(self, state: Mapping[str, float]) -> None:
        self._log_lambda, self._error = torch.tensor(math.log(state["lambda"])), torch.tensor(state["error"])
