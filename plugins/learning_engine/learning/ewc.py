"""Elastic weight consolidation: what a change of the weights costs, by how much the guarded versions need them.

P(θ) = λ · ½ dᵀF d, d the change since training began: of the LoRA factors (`diagonal`) or of the weights that they
make (`kronecker`). With F per supervised token ½ dᵀF d is, to second order, the KL from the guarded versions to the
model on what they were measured on, summed over them, and P is in nats per token. Sources: Kirkpatrick et al. 2017;
online form: Schwarz et al. 2018.
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
from learning_engine.learning.strength import Budget, Fixed, Strength


class Regulariser(Protocol):
    """What the trainer adds to the task loss, once an optimizer step."""

    strength: Strength

    def __call__(self, model: Any) -> torch.Tensor:
        """The penalty at the model's weights: a scalar in float32 on its device, with its gradient."""
        ...

    def predicted_kl(self, model: Any) -> float:
        """KL from a guarded version to the model as it is, predicted, in nats per token: the mean over the versions."""
        ...


class Penalty:
    """λ · ½ dᵀF d over guarded versions of `weight` in all; zero where nothing is guarded or λ = 0."""

    def __init__(self, quadratic: nn.Module | None, ewc_lambda: float | Strength, *, weight: float = 1.0) -> None:
        self._quadratic, self._weight = quadratic, weight
        self.strength: Strength = Fixed(ewc_lambda) if isinstance(ewc_lambda, int | float) else ewc_lambda

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
        # Mixed precision is for the model: here small differences count.
        with torch.autocast(device.type, enabled=False):
            value: torch.Tensor = self._quadratic.to(device)(weights)
        return value


def around(
    model: Any, information: FisherInformation | None, ewc_lambda: float | Literal["auto"], *, kl_budget: float = 1e-4
) -> Penalty:
    """The penalty that is zero at the weights that `model` has now.

    With "auto" λ is found while training, so that the predicted KL ends at `kl_budget` nats per token, the mean over
    the guarded versions. Raises FisherMismatch where `information` is of other weights than the model's.
    """
    if information is None or ewc_lambda == 0:
        return Penalty(None, 0.0)
    weight = information.weight
    strength = Budget(kl_budget * weight) if ewc_lambda == "auto" else ewc_lambda
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
            f"Expected Fisher information for the model's {len(expected)} adapted weights, found it for {len(found)}; "
            f"the difference begins with {', '.join(name for name, _ in wrong[:5])}"
        )


def _shapes(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    return {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _layers(weights: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    """Adapted layers with their (d_out, d_in)."""
    marker = ".lora_A.weight"
    return {
        (layer, (weights[f"{layer}.lora_B.weight"].shape[0], weights[layer + marker].shape[1]))
        for layer in (name.removesuffix(marker) for name in weights if name.endswith(marker))
    }


def _widths(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    """The same of Kronecker factors."""
    width = {
        name.removesuffix(VECTORS): len(tensor) for name, tensor in tensors.items() if not name.endswith((VALUES, REST))
    }
    layers = {name.rpartition(".")[0] for name in width}
    return {(layer, (width.get(f"{layer}.G", 0), width.get(f"{layer}.C", 0))) for layer in layers}
