"""½ Σ vec(D)ᵀ (C ⊗ G) vec(D) of the weight change D = s(BA − B*A*), and its gradient, without a d × d temporary.

D has rank 2r: D = U W with U = [s(B − B*), sB*] (d_out, 2r) and W = [A; A − A*] (2r, d_in), differences that cancel
nothing. With M = UᵀGU and K = W C Wᵀ:
  value  ½ Σ_kl M_kl K_kl
  ∂/∂B   s (G U)(W C Aᵀ)
  ∂/∂A   s (BᵀG U)(W C)
summed over the pairs (G, C) that the weeks left. Layers of the same shapes are stacked: a few dozen kernels a step,
however many layers there are.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from learning_engine.learning.kronecker import Group, groups
from learning_engine.learning.sketch import REST, VALUES, VECTORS

Tensors = Mapping[str, torch.Tensor]
A, B = ".lora_A.weight", ".lora_B.weight"


class KroneckerQuadratic(nn.Module):
    """In nats per token; `tensors` as `kronecker` or `sketch` name them, `anchor` has the adapter's names."""

    def __init__(self, tensors: Tensors, anchor: Tensors, *, scaling: float) -> None:
        super().__init__()
        alike: dict[Any, list[Group]] = defaultdict(list)
        for group in groups({name.removesuffix(VECTORS): None for name in tensors}):
            shapes = [tuple(anchor[layer + half].shape) for layer in group.layers for half in (A, B)]
            sizes = [tuple(factor.shape) for key in (group.inputs, *group.outputs) for factor in _parts(tensors, key)]
            alike[(*shapes, *sizes)].append(group)
        self.stacks = nn.ModuleList(_Stack(members, tensors, anchor, scaling) for members in alike.values())

    def forward(self, weights: Tensors) -> torch.Tensor:
        return torch.stack([stack(weights) for stack in self.stacks]).sum()


class _Stack(nn.Module):
    """Groups of one shape: l groups of n layers each, every factor stacked over the groups."""

    def __init__(self, members: list[Group], tensors: Tensors, anchor: Tensors, scaling: float) -> None:
        super().__init__()
        self._scaling = scaling
        self._layers = [list(column) for column in zip(*(group.layers for group in members), strict=True)]
        self.inputs = _Factor([_parts(tensors, group.inputs) for group in members])
        self.outputs = [_Factor([_parts(tensors, f"{layer}.G") for layer in layers]) for layers in self._layers]
        self.moved = nn.ModuleList(self.outputs)  # so that they go where this module goes
        self.a, self.b = (
            nn.ParameterList(_frozen(_stacked(anchor, layers, half)) for layers in self._layers) for half in (A, B)
        )

    def forward(self, weights: Tensors) -> torch.Tensor:
        flat = [weights[layer + half] for layers in self._layers for half in (A, B) for layer in layers]
        with torch.no_grad():
            value, gradients = self._evaluate(weights)
        return _WithGradient.apply(value, gradients, *flat)  # type: ignore[no-any-return, no-untyped-call]

    def _evaluate(self, weights: Tensors) -> tuple[torch.Tensor, list[torch.Tensor]]:
        s, value, gradients = self._scaling, torch.zeros(()), list[torch.Tensor]()
        a, b = ([_stacked(weights, layers, half) for layers in self._layers] for half in (A, B))
        w = [torch.cat([now, now - self.a[place]], dim=1) for place, now in enumerate(a)]
        # The layers of a group share C, so that one product serves them all.
        wc = self.inputs.times(torch.cat(w, dim=1).mT).mT
        for place, here in enumerate(torch.split(wc, [each.shape[1] for each in w], dim=-2)):
            before = self.b[place]
            u = s * torch.cat([b[place] - before, before], dim=2)
            gu = self.outputs[place].times(u)
            m, k = u[:, None].mT @ gu, here @ w[place][:, None].mT
            value = value + 0.5 * (m * k).sum()
            gradients += (s * (b[place][:, None].mT @ gu) @ here).sum(1).unbind()
            gradients += (s * gu @ (here @ a[place][:, None].mT)).sum(1).unbind()
        return value, gradients


class _Factor(nn.Module):
    """l groups' k factors each, dense (l, k, d, d) or sketched."""

    dense: torch.Tensor
    vectors: torch.Tensor
    values: torch.Tensor
    rest: torch.Tensor

    def __init__(self, parts: list[list[torch.Tensor]]) -> None:
        super().__init__()
        names = ("dense",) if len(parts[0]) == 1 else ("vectors", "values", "rest")
        self.is_dense = names == ("dense",)
        for name, column in zip(names, zip(*parts, strict=True), strict=True):
            self.register_buffer(name, torch.stack(column))

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """This factor times `right` (l, d, c), as (l, k, d, c)."""
        right = right[:, None]
        if self.is_dense:
            return self.dense @ right
        seen = self.values[..., None] * (self.vectors.mT @ right.to(self.vectors.dtype)).float()
        return (self.vectors @ seen.to(self.vectors.dtype)).float() + self.rest[..., None, None] * right


class _WithGradient(torch.autograd.Function):
    """A value whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, gradients: list[torch.Tensor], *_weights: torch.Tensor) -> torch.Tensor:
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        return None, None, *(outer[0] * gradient for gradient in ctx.gradients)


def _parts(tensors: Tensors, key: str) -> list[torch.Tensor]:
    return [tensors[key]] if key in tensors else [tensors[key + part] for part in (VECTORS, VALUES, REST)]


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _stacked(tensors: Tensors, layers: list[str], half: str) -> torch.Tensor:
    return torch.stack([tensors[layer + half] for layer in layers])
