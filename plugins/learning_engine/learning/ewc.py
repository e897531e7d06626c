"""Elastic weight consolidation (EWC): penalise weight changes by their importance to the protected versions.

P(θ) = λ · ½ dᵀF d, where d is the change since training began: of the LoRA factors (`diagonal`) or of the weights
ΔW = s·BA (`kronecker`). With F per supervised token, ½ dᵀF d is to second order the KL from the protected versions to
the model on the data they were measured on, summed over the versions; P is in nats per token.
Sources: Kirkpatrick et al. 2017; online form: Schwarz et al. 2018.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import nn

from learning_engine.errors import FisherMismatch
from learning_engine.learning.diagonal import DiagonalQuadratic
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import lora_weights
from learning_engine.learning.quadratic import KroneckerQuadratic
from learning_engine.learning.sketch import REST, VALUES, VECTORS
from learning_engine.learning.strength import BudgetController, FixedStrength, Strength


class Regulariser(Protocol):
    """The penalty that the trainer adds to the task loss, once per optimizer step."""

    strength: Strength

    def __call__(self, model: Any) -> torch.Tensor:
        """The penalty at the model's current weights: a differentiable float32 scalar on its device."""
        ...

    def predicted_kl(self, model: Any) -> float:
        """Predicted KL from a protected version to the current model, in nats per token: the mean over versions."""
        ...


class Penalty:
    """λ · ½ dᵀF d over protected versions of total `weight`; zero without a `quadratic`."""

    def __init__(self, quadratic: nn.Module | None, ewc_lambda: float | Strength, *, weight: float = 1.0) -> None:
        self._quadratic, self._weight = quadratic, weight
        self.strength: Strength = FixedStrength(ewc_lambda) if isinstance(ewc_lambda, int | float) else ewc_lambda

    def __call__(self, model: Any) -> torch.Tensor:
        quadratic = self._evaluate(model)
        return quadratic if self._quadratic is None else self.strength(quadratic.detach()) * quadratic

    def predicted_kl(self, model: Any) -> float:
        return float(self._evaluate(model).detach()) / self._weight

    def _evaluate(self, model: Any) -> torch.Tensor:
        weights = lora_weights(model)
        device = next(iter(weights.values())).device
        if self._quadratic is None:
            return torch.zeros((), device=device)
        # No autocast: mixed precision would lose the small differences.
        with torch.autocast(device.type, enabled=False):
            value: torch.Tensor = self._quadratic.to(device)(weights)
        return value


def anchored_penalty(
    model: Any, information: FisherInformation | None, ewc_lambda: float | Literal["auto"], *, kl_budget: float = 1e-4
) -> Penalty:
    """The penalty anchored at the current weights of `model`, where it is zero.

    With "auto", λ is adjusted during training so that the predicted KL, the mean over the protected versions, ends at
    `kl_budget` nats per token. Raises FisherMismatch if `information` does not fit the model's weights.
    """
    if information is None or ewc_lambda == 0:
        return Penalty(None, 0.0)
    weight = information.weight
    strength = BudgetController(kl_budget * weight) if ewc_lambda == "auto" else ewc_lambda
    anchor = lora_weights(model)
    if information.kind == "diagonal":
        _check(_shapes(information.tensors), _shapes(anchor))
        return Penalty(DiagonalQuadratic(information.tensors, anchor), strength, weight=weight)
    _check(_widths(information.tensors), _layers(anchor))
    scaling = information.lora.alpha / information.lora.rank
    quadratic = KroneckerQuadratic(information.tensors, anchor, scaling=scaling)
    return Penalty(quadratic, strength, weight=weight)


def _check(found: set[tuple[str, tuple[int, ...]]], expected: set[tuple[str, tuple[int, ...]]]) -> None:
    if wrong := sorted(found ^ expected):
        raise FisherMismatch(
            f"Expected Fisher information for the model's {len(expected)} adapted weights, found it for {len(found)}. "
            f"They differ in {', '.join(name for name, _ in wrong[:5])}: compute it again for this model"
        )


def _shapes(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    return {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _layers(weights: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    """The adapted layers with their (d_out, d_in)."""
    marker = ".lora_A.weight"
    return {
        (layer, (weights[f"{layer}.lora_B.weight"].shape[0], weights[layer + marker].shape[1]))
        for layer in (name.removesuffix(marker) for name in weights if name.endswith(marker))
    }


def _widths(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    """The layers of the Kronecker factors with their (d_out, d_in)."""
    width = {
        name.removesuffix(VECTORS): len(tensor) for name, tensor in tensors.items() if not name.endswith((VALUES, REST))
    }
    layers = {name.rpartition(".")[0] for name in width}
    return {(layer, (width.get(f"{layer}.G", 0), width.get(f"{layer}.C", 0))) for layer in layers}
