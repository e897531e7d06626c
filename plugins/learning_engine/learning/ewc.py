"""Elastic weight consolidation: what a change of the weights costs, by how much the guarded versions need them.

P(θ) = (λ/2) Σ_i F_i (θ_i − θ*_i)², ∂P/∂θ = λ F (θ − θ*). With F per supervised token, P is in nats per token. θ* are
the adapter's weights before training. Source: Kirkpatrick et al. 2017; online form: Schwarz et al. 2018.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch

from learning_engine.errors import FisherMismatch
from learning_engine.learning.model import lora_weights


class Regulariser(Protocol):
    """What the trainer adds to the task loss, once an optimizer step."""

    def __call__(self, model: Any) -> torch.Tensor:
        """The penalty at the model's weights: a scalar in float32 on its device, with its gradient."""
        ...


class Penalty:
    """The diagonal penalty on the LoRA factors; zero where nothing is guarded or λ = 0.

    `fisher` and `anchor` hold F and θ* under the names of the adapter's file; both are copied.
    """

    def __init__(
        self, fisher: Mapping[str, torch.Tensor], anchor: Mapping[str, torch.Tensor], ewc_lambda: float
    ) -> None:
        if fisher and (wrong := sorted(_shapes(fisher) ^ _shapes(anchor))):
            raise FisherMismatch(
                f"Expected Fisher information for the {len(anchor)} LoRA weights, found it for {len(fisher)}; the "
                f"difference begins with {', '.join(name for name, _ in wrong[:5])}"
            )
        self._names = sorted(fisher) if ewc_lambda else []
        self._lambda = ewc_lambda
        self._fisher, self._anchor = _flat(fisher, self._names), _flat(anchor, self._names)

    @classmethod
    def around(cls, model: Any, fisher: Mapping[str, torch.Tensor], ewc_lambda: float) -> Self:
        """The penalty that is zero at the weights that `model` has now."""
        return cls(fisher, lora_weights(model), ewc_lambda)

    def __call__(self, model: Any) -> torch.Tensor:
        weights = lora_weights(model)
        if not self._names:
            return torch.zeros((), device=next(iter(weights.values())).device)
        # As one long vector: a dozen kernels a step, however many layers there are.
        theta = torch.cat([weights[name].reshape(-1) for name in self._names])
        self._fisher, self._anchor = self._fisher.to(theta.device), self._anchor.to(theta.device)
        change = theta - self._anchor
        return 0.5 * self._lambda * (self._fisher * change).dot(change)


def _shapes(tensors: Mapping[str, torch.Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    return {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _flat(tensors: Mapping[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    if not names:
        return torch.zeros(0)
    return torch.cat([tensors[name].detach().reshape(-1).float() for name in names])
