"""Kronecker factors of the Fisher information of the weight change ΔW = s·BA.

For an adapted layer y = (W₀ + ΔW) x, with δ = ∂(Σ_n ℓ_n)/∂y and sequence n's gradient Γ_n = Σ_t δ_nt x_ntᵀ, the Fisher
information is F = Σ_n vec Γ_n (vec Γ_n)ᵀ / Σ_n T_n. Throughout the package, vec stacks the rows of a matrix, as torch's
`flatten` does. F is approximated by G ⊗ C with its two partial traces
  G = Σ_n Γ_n Γ_nᵀ / Σ_n T_n (d_out, d_out)      C = Σ_n Γ_nᵀ Γ_n / Σ_n ‖Γ_n‖² (d_in, d_in)
so that the trace of F is exact; F is in nats per supervised token. No Γ is formed: with the positions of one sequence
as the rows of X and Δ, Γ Γᵀ = Δᵀ (X Xᵀ) Δ and Γᵀ Γ = Xᵀ (Δ Δᵀ) X. Unlike the usual factors of K-FAC, Σ x xᵀ and
Σ δ δᵀ, these include the correlations between a sequence's positions, which carry most of what a weight change does to
an answer. Unlike Fisher information of the LoRA factors, they are invariant under (B, A) → (BR, R⁻¹A), which leaves
the function unchanged. Sources: Martens and Grosse 2015 (K-FAC); Morwani et al. 2024 (partial traces as one step
towards the nearest Kronecker product).

Tensors: `<layer>.G` (d_out, d_out) and `<layer>.C` (d_in, d_in).
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from learning_engine.learning import sketch
from learning_engine.learning.capture import GradientCapture
from learning_engine.learning.model import lora_weights

Tensors = dict[str, torch.Tensor]


class KroneckerSums(GradientCapture):
    """Σ_n Γ_n Γ_nᵀ and Σ_n Γ_nᵀ Γ_n of each adapted layer of `model`."""

    def __init__(self, model: Any) -> None:
        layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
        super().__init__(model, layers)
        self._dtype = torch.promote_types(next(iter(lora_weights(model).values())).dtype, torch.float32)
        device = _accumulator_device(model, layers)
        self._sums: Tensors = {
            f"{name}.{factor}": torch.zeros(width, width, dtype=self._dtype, device=device)
            for name, layer in layers.items()
            for factor, width in (("G", layer.out_features), ("C", layer.in_features))
        }

    def on_gradient(self, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        # At padding δ is exactly zero and x is finite, so every product is zero.
        x, delta = inputs.to(self._dtype), gradient.to(self._dtype)
        self._add(f"{name}.G", delta, (x @ x.mT) @ delta)
        self._add(f"{name}.C", x, (delta @ delta.mT) @ x)

    def sums(self) -> Tensors:
        return self._sums

    def finish(self, *, n_tokens: int, draws: int) -> Tensors:
        found: Tensors = {}
        for key, total in self._sums.items():
            divisor = total.trace().clamp_min(torch.finfo(total.dtype).tiny) if key.endswith(".C") else draws * n_tokens
            # In place: on the CPU, a copy of all sums would take as much memory again.
            found[key] = total.div_(divisor).cpu()
        return found

    def _add(self, key: str, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add Σ_n left_nᵀ right_n, as one product over all positions of the batch."""
        left, right, total = self.tokens(left), self.tokens(right), self._sums[key]
        if total.device == left.device:
            total.addmm_(left.mT, right)
        else:
            total += (left.mT @ right).to(total.device)


def accumulate(new: Tensors, old: Mapping[str, torch.Tensor], decay: float) -> Tensors:
    """One pair of factors for F_new + decay · F_old, dense or sketched: G is summed, and C is averaged with the trace
    of its G as weight, so that the trace of F stays exact.

    Those of a large model take gigabytes: `new` is emptied layer by layer, and only one layer of `old` is dense at a
    time.
    """
    found: Tensors = {}
    for layer in sorted({_layer_of(name) for name in new}):
        before = sketch.dense({name: tensor for name, tensor in old.items() if _layer_of(name) == layer})
        now = sketch.dense({name: new.pop(name) for name in list(new) if _layer_of(name) == layer})
        found |= merge_pairs(
            {key: torch.stack([before[key] if key.endswith(".C") else decay * before[key], now[key]]) for key in now}
        )
    return found


def _layer_of(name: str) -> str:
    """The layer of a tensor `<layer>.G`, `<layer>.C`, or of the sketch of one."""
    return sketch.factor_of(name).rpartition(".")[0]


def merge_pairs(stacked: Mapping[str, torch.Tensor]) -> Tensors:
    """One pair of factors for Σ_k G_k ⊗ C_k; k is the first axis of the tensors."""
    found: Tensors = {}
    for key, factors in stacked.items():
        if key.endswith(".C"):
            outputs = stacked[key.removesuffix(".C") + ".G"]
            weight = outputs.diagonal(dim1=1, dim2=2).sum(1)
            share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
            found[key] = (share[:, None, None] * factors).sum(0)
        else:
            found[key] = factors.sum(0)
    return found


def _accumulator_device(model: Any, layers: Mapping[str, Any]) -> torch.device:
    """The device of the sums: the model's, or the CPU if they would take more than half of the GPU's free memory."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.device(device)
    needed = sum(4 * (layer.in_features**2 + layer.out_features**2) for layer in layers.values())
    free, _ = torch.cuda.mem_get_info(device)
    return torch.device(device) if 2 * needed < free else torch.device("cpu")
