"""Diagonal Fisher information of the LoRA factors: how much the model's present predictions depend on each weight.

F_i = Σ_n (∂ℓ_n/∂θ_i)² / Σ_n T_n, in nats per supervised token and squared unit of weight. The square is taken per
sequence, never of a batch's sum or mean. Tensors: names and shapes of the adapter's file, float32.

With y = W₀x + s·B u, u = A x and δ = ∂(Σ_n ℓ_n)/∂y, the gradients of sequence n are sums over its own tokens t:
  G_B = Σ_t (s δ_t) u_tᵀ      s δ is the gradient at lora_B's output, u its input
  G_A = Σ_t (s Bᵀδ_t) x_tᵀ    s Bᵀδ is the gradient at lora_A's output, x its input
Each is one batched matrix product of a module's input and output gradient. Padded positions add nothing, because no
loss depends on them. Source: Kirkpatrick et al. 2017.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from learning_engine.learning.capture import GradientCapture
from learning_engine.learning.model import lora_weights

Tensors = dict[str, torch.Tensor]


class DiagonalSums(GradientCapture):
    """Σ_n of each sequence's squared gradient, for every LoRA factor of `model`."""

    def __init__(self, model: Any) -> None:
        self.squares: Tensors = {name: torch.zeros_like(weight) for name, weight in lora_weights(model).items()}
        ending = f".{model.active_adapter}"
        super().__init__(
            model,
            {
                f"{name.removesuffix(ending)}.weight": module
                for name, module in model.named_modules()
                if name.endswith((f".lora_A{ending}", f".lora_B{ending}"))
            },
        )

    def on_gradient(self, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        self.squares[name] += (gradient.transpose(1, 2) @ inputs).square().sum(0)

    def sums(self) -> Tensors:
        return self.squares

    def finish(self, *, n_tokens: int, draws: int) -> Tensors:
        return {name: (square / (draws * n_tokens)).cpu() for name, square in self.squares.items()}


def accumulate(new: Mapping[str, torch.Tensor], old: Mapping[str, torch.Tensor], decay: float) -> Tensors:
    """F = F_new + decay · F_old."""
    return {name: tensor + decay * old[name] for name, tensor in new.items()}


class DiagonalQuadratic(nn.Module):
    """½ Σ_i F_i (θ_i − θ*_i)², in nats per token, on the device of `anchor`. `fisher` and `anchor` use the adapter's
    names; both are copied."""

    fisher: torch.Tensor
    anchor: torch.Tensor

    def __init__(self, fisher: Mapping[str, torch.Tensor], anchor: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._names = sorted(fisher)
        held = _flat(anchor, self._names)
        self.register_buffer("fisher", _flat(fisher, self._names).to(held.device))
        self.register_buffer("anchor", held)

    def forward(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        # One flat vector needs about a dozen kernels a step, independent of the number of layers.
        change = torch.cat([weights[name].reshape(-1) for name in self._names]) - self.anchor
        return 0.5 * (self.fisher * change).dot(change)


def _flat(tensors: Mapping[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    return torch.cat([tensors[name].detach().reshape(-1).float() for name in names])
