"""Kronecker-factored Fisher information of the weight change: what ΔW = s·BA may not do to what the model says now.

For an adapted layer y = (W₀ + ΔW) x with δ = ∂(Σ_n ℓ_n)/∂y:  F ≈ G ⊗ C with
  C = mean over positions of x xᵀ (d_in, d_in)      G = Σ δδᵀ / Σ_n T_n (d_out, d_out)
over the positions that a supervised token depends on; T_n supervised tokens of sequence n. F is then in nats per
supervised token. Unlike a Fisher of the factors it does not change when (B, A) turns into (BR, R⁻¹A), which is the
same function. Source: Martens and Grosse 2015 (K-FAC), with the weight sharing of Eschenhagen et al. 2023 ("expand").

Tensors: `<layer>.G` (k, d_out, d_out) for each adapted layer, `<parent>.<layers, joined by +>.C` (k, d_in, d_in) for
each input, which q, k and v share. F = Σ_k G_k ⊗ C_k; k is 1 unless weeks are kept apart.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer

from learning_engine.learning.watch import Watch

Tensors = dict[str, torch.Tensor]


class Group(NamedTuple):
    """Adapted layers that share one input: the key of C, and the keys of each layer's G, in the order of the names."""

    inputs: str
    outputs: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(key.removesuffix(".G") for key in self.outputs)


def groups(keys: Mapping[str, Any]) -> list[Group]:
    """The groups in tensors (or their names) of this kind, sorted."""
    return [_group(key) for key in sorted(keys) if key.endswith(".C")]


class KroneckerSums(Watch):
    """Σ x xᵀ of each distinct input and Σ δδᵀ of each adapted layer of `model`."""

    def __init__(self, model: Any) -> None:
        layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
        super().__init__(model, layers)
        self._home = _home(model, layers)
        self._inputs: Tensors = {}
        self._outputs: Tensors = {}
        self._sharing: dict[str, list[str]] = defaultdict(list)
        self._mask = torch.zeros(0)
        self._last: tuple[str, torch.Tensor] | None = None
        self._positions = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)

    def begin(self, supervised: torch.Tensor) -> None:
        super().begin(supervised)
        # A position matters where a later token of its row is supervised; padding and the last token never do.
        later = supervised.flip(1).cumsum(1).flip(1)[:, 1:] > 0
        self._mask = torch.nn.functional.pad(later, (0, 1))
        self._positions += int(later.sum())
        self._last = None

    def ran(self, name: str, entered: torch.Tensor) -> None:
        # q, k and v are given the very same tensor.
        if self._last is None or self._last[1].data_ptr() != entered.data_ptr():
            self._last = name, entered
            self._add(self._inputs, name, entered[self._mask])
        if name not in self._sharing[self._last[0]]:
            self._sharing[self._last[0]].append(name)

    def returned(self, name: str, entered: torch.Tensor, gradient: torch.Tensor) -> None:  # noqa: ARG002
        self._add(self._outputs, name, gradient[self._mask])

    def sums(self) -> Tensors:
        return {
            "positions": self._positions,
            **{f"{name}.G": tensor for name, tensor in self._outputs.items()},
            **{f"{name}.C": tensor for name, tensor in self._inputs.items()},
        }

    def finish(self, *, n_tokens: int, draws: int) -> Tensors:
        found = {f"{name}.G": tensor[None].cpu() / (draws * n_tokens) for name, tensor in self._outputs.items()}
        for first, layers in self._sharing.items():
            parent = first.rpartition(".")[0]
            leaves = "+".join(sorted(layer.rpartition(".")[2] for layer in layers))
            found[f"{parent}.{leaves}.C"] = self._inputs[first][None].cpu() / float(self._positions)
        return found

    def _add(self, sums: Tensors, name: str, vectors: torch.Tensor) -> None:
        wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        if name not in sums:
            sums[name] = torch.zeros(wide.shape[1], wide.shape[1], dtype=wide.dtype, device=self._home)
        if self._home == wide.device:
            sums[name].addmm_(wide.T, wide)
        else:
            sums[name] += (wide.T @ wide).to(self._home)


def accumulate(
    new: Mapping[str, torch.Tensor], old: Mapping[str, torch.Tensor], decay: float, *, apart: bool
) -> Tensors:
    """F = F_new + decay · F_old of dense factors.

    `apart` keeps every week's pair, which is exact and grows; else one pair stands for all: G adds up, and C is the
    mean weighted by the trace of its G, so that the trace of F is exact.
    """
    both = {key: torch.cat([old[key] if key.endswith(".C") else decay * old[key], new[key]]) for key in new}
    return both if apart else _folded(both)


def _folded(tensors: Tensors) -> Tensors:
    folded: Tensors = {}
    for group in groups(tensors):
        weight = sum(tensors[key].diagonal(dim1=1, dim2=2).sum(1) for key in group.outputs)
        share = torch.as_tensor(weight) / torch.as_tensor(weight).sum().clamp_min(torch.finfo(torch.float32).tiny)
        folded[group.inputs] = (share[:, None, None] * tensors[group.inputs]).sum(0, keepdim=True)
        folded |= {key: tensors[key].sum(0, keepdim=True) for key in group.outputs}
    return folded


def _group(key: str) -> Group:
    parent, _, leaves = key.removesuffix(".C").rpartition(".")
    return Group(key, tuple(f"{parent}.{leaf}.G" for leaf in leaves.split("+")))


def _home(model: Any, layers: Mapping[str, Any]) -> torch.device:
    """Where the sums lie: beside the model, or in the host's memory where they would crowd it out of the GPU's."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.device(device)
    needed = sum(4 * (layer.in_features**2 + layer.out_features**2) for layer in layers.values())
    free, _ = torch.cuda.mem_get_info(device)
    return torch.device(device) if 2 * needed < free else torch.device("cpu")
