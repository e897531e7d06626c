"""½ vec(D)ᵀ (G ⊗ C) vec(D) of the weight change D = s(BA − B*A*), and its gradient, without a d × d temporary.

D has rank 2r: D = U W with U = [s(B − B*), sB*] (d_out, 2r) and W = [A; A − A*] (2r, d_in). This form avoids
cancellation between BA and B*A*. With M = UᵀGU and K = W C Wᵀ:
  value  ½ Σ_kl M_kl K_kl
  ∂/∂B   s (G U)(W C Aᵀ)
  ∂/∂A   s (BᵀG U)(W C)
Layers of equal shape are stacked, so a step takes a few dozen kernels, independent of the number of layers. vec as in
`kronecker`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from learning_engine.learning.sketch import REST, VALUES, VECTORS

Tensors = Mapping[str, torch.Tensor]
A, B = ".lora_A.weight", ".lora_B.weight"


class KroneckerQuadratic(nn.Module):
    """In nats per token, on the device of `anchor`, which is named as in the adapter's file. `tensors` are named as in
    `kronecker` or `sketch`; all are copied."""

    def __init__(self, tensors: Tensors, anchor: Tensors, *, scaling: float) -> None:
        super().__init__()
        alike: dict[Any, list[str]] = defaultdict(list)
        for layer in sorted(name.removesuffix(A) for name in anchor if name.endswith(A)):
            parts = [
                anchor[layer + A],
                anchor[layer + B],
                *_parts(tensors, f"{layer}.G"),
                *_parts(tensors, f"{layer}.C"),
            ]
            alike[tuple(tuple(part.shape) for part in parts)].append(layer)
        self.stacks = nn.ModuleList(_Stack(layers, tensors, anchor, scaling) for layers in alike.values())

    def forward(self, weights: Tensors) -> torch.Tensor:
        return torch.stack([stack(weights) for stack in self.stacks]).sum()


class _Stack(nn.Module):
    """The l layers of one shape, with every tensor stacked over them."""

    gb: torch.Tensor
    ac: torch.Tensor

    def __init__(self, layers: list[str], tensors: Tensors, anchor: Tensors, scaling: float) -> None:
        super().__init__()
        self._layers, self._scaling = layers, scaling
        device = anchor[layers[0] + A].device
        self.g, self.c = (
            _Factor([_parts(tensors, f"{layer}.{factor}") for layer in layers], device) for factor in "GC"
        )
        self.a, self.b = (
            nn.Parameter(self._stacked(anchor, factor).detach(), requires_grad=False) for factor in (A, B)
        )
        # Constant products, computed once; each step multiplies only the differences by G and C.
        self.register_buffer("gb", self.g.times(scaling * self.b))
        self.register_buffer("ac", self.c.times(self.a.mT).mT)

    def forward(self, weights: Tensors) -> torch.Tensor:
        flat = [weights[layer + factor] for factor in (A, B) for layer in self._layers]
        with torch.no_grad():
            value, gradients = self._evaluate(weights)
        return _WithGradient.apply(value, gradients, *flat)  # type: ignore[no-any-return, no-untyped-call]

    def _evaluate(self, weights: Tensors) -> tuple[torch.Tensor, list[torch.Tensor]]:
        s, a, b = self._scaling, self._stacked(weights, A), self._stacked(weights, B)
        moved_a, moved_b = a - self.a, s * (b - self.b)
        moved_ac, moved_gb = self.c.times(moved_a.mT).mT, self.g.times(moved_b)
        u, gu = torch.cat([moved_b, s * self.b], dim=2), torch.cat([moved_gb, self.gb], dim=2)
        w, wc = torch.cat([a, moved_a], dim=1), torch.cat([self.ac + moved_ac, moved_ac], dim=1)
        value = 0.5 * ((u.mT @ gu) * (wc @ w.mT)).sum()
        of_a = s * (b.mT @ gu) @ wc
        of_b = s * gu @ (wc @ a.mT)
        return value, [*of_a.unbind(), *of_b.unbind()]

    def _stacked(self, tensors: Tensors, factor: str) -> torch.Tensor:
        return torch.stack([tensors[layer + factor] for layer in self._layers])


class _Factor(nn.Module):
    """The factors G or C of l layers, dense (l, d, d) or sketched."""

    dense: torch.Tensor
    vectors: torch.Tensor
    values: torch.Tensor
    rest: torch.Tensor

    def __init__(self, parts: list[list[torch.Tensor]], device: torch.device) -> None:
        super().__init__()
        names = ("dense",) if len(parts[0]) == 1 else ("vectors", "values", "rest")
        self.is_dense = names == ("dense",)
        for name, column in zip(names, zip(*parts, strict=True), strict=True):
            self.register_buffer(name, _stacked_on(device, column))

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """The factors times `right` (l, d, c)."""
        if self.is_dense:
            return self.dense @ right
        seen = self.values[..., None] * (self.vectors.mT @ right.to(self.vectors.dtype)).float()
        return (self.vectors @ seen.to(self.vectors.dtype)).float() + self.rest[..., None, None] * right


class _WithGradient(torch.autograd.Function):
    """Attach precomputed gradients to a value."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, gradients: list[torch.Tensor], *_weights: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        return None, None, *(outer[0] * gradient for gradient in ctx.gradients)


def _stacked_on(device: torch.device, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tensors stacked on `device`. Each moves into its place: stacked first, gigabytes would exist once more."""
    stacked = torch.empty((len(tensors), *tensors[0].shape), dtype=tensors[0].dtype, device=device)
    for place, tensor in zip(stacked, tensors, strict=True):
        place.copy_(tensor)
    return stacked


def _parts(tensors: Tensors, key: str) -> list[torch.Tensor]:
    return [tensors[key]] if key in tensors else [tensors[key + part] for part in (VECTORS, VALUES, REST)]
