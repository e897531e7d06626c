"""Elastic weight consolidation (EWC): penalise weight changes by their importance to the protected versions.

P(θ) = λ · ½ dᵀF d, where d is the change since training began: of the LoRA factors (`diagonal`) or of the weights
ΔW = s·BA (`kronecker`). As measured, ½ dᵀF d is to second order the KL from a protected version to the model on the
data that it was measured on, in nats per token; F is scaled so that each version weighs alike (see `scale`).
Sources: Kirkpatrick et al. 2017; online form: Schwarz et al. 2018.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from learning_engine.errors import FisherMismatch
from learning_engine.learning.diagonal import DiagonalQuadratic
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import lora_weights
from learning_engine.learning.quadratic import KroneckerQuadratic
from learning_engine.learning.sketch import REST, VALUES, VECTORS
from learning_engine.learning.strength import Fixed, Progress, Strength


class Penalty:
    """λ · ½ dᵀF d of the change since the penalty was made; zero without a `quadratic`."""

    def __init__(self, quadratic: nn.Module | None, strength: Strength | float) -> None:
        self._quadratic = quadratic
        self.strength: Strength = Fixed(strength) if isinstance(strength, int | float) else strength

    def quadratic(self, model: Any) -> torch.Tensor:
        """½ dᵀF d at the model's current weights: a differentiable float32 scalar on its device."""
        weights = lora_weights(model)
        device = next(iter(weights.values())).device
        if self._quadratic is None:
            return torch.zeros((), device=device)
        # No autocast: mixed precision would lose the small differences.
        with torch.autocast(device.type, enabled=False):
            value: torch.Tensor = self._quadratic.to(device)(weights)
        return value

    def add_gradient(self, model: Any, *, scale: float = 1.0) -> torch.Tensor:
        """Add `scale` times the penalty's gradient to that of the task, which the weights hold times `scale`.

        Called once per optimizer step, after the backward passes of the task. Returns the penalty, a detached scalar.
        """
        value = self.quadratic(model)
        if self._quadratic is None:
            return value
        weights = [weight for _, weight in sorted(lora_weights(model).items())]
        # Not every quadratic depends on every weight.
        gradients = torch.autograd.grad(value, weights, materialize_grads=True)
        held = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        strength = self.strength(_flat(held) / scale, _flat(gradients))
        for weight, of_task, gradient in zip(weights, held, gradients, strict=True):
            weight.grad = of_task.add_(gradient * strength * scale)
        return strength * value.detach()


def anchored_penalty(
    model: Any, information: FisherInformation | None, ewc_lambda: float | Literal["auto"], *, progress: float = 0.3
) -> Penalty:
    """The penalty anchored at the current weights of `model`, where it is zero.

    With "auto", λ is at each step the largest that leaves the share `progress` of the step's progress on the task.
    Raises FisherMismatch if `information` does not fit the model's weights.
    """
    if information is None or ewc_lambda == 0:
        return Penalty(None, 0.0)
    strength = Progress(progress) if ewc_lambda == "auto" else ewc_lambda
    anchor = lora_weights(model)
    if information.kind == "diagonal":
        _check(_shapes(information.tensors), _shapes(anchor))
        return Penalty(DiagonalQuadratic(information.tensors, anchor), strength)
    _check(_widths(information.tensors), _layers(anchor))
    scaling = information.lora.alpha / information.lora.rank
    return Penalty(KroneckerQuadratic(information.tensors, anchor, scaling=scaling), strength)


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


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
