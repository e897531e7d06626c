"""Kronecker factors of the Fisher information of the weight change ΔW = s·BA.

For an adapted layer y = (W₀ + ΔW) x, δ = ∂(Σ_n ℓ_n)/∂y and the gradient of sequence n, Γ_n = Σ_t δ_nt x_ntᵀ, the Fisher
information is F = Σ_n vec Γ_n (vec Γ_n)ᵀ / Σ_n T_n. vec stacks the rows of a matrix, as torch's `flatten` does; this
convention holds in the whole package. F is approximated by G ⊗ C with its two partial traces
  G = Σ_n Γ_n Γ_nᵀ / Σ_n T_n (d_out, d_out)      C = Σ_n Γ_nᵀ Γ_n / Σ_n ‖Γ_n‖² (d_in, d_in)
so that the trace of F is exact; F is in nats per supervised token. No Γ is ever formed: with X, Δ the positions of one
sequence as rows, Γ Γᵀ = Δᵀ (X Xᵀ) Δ and Γᵀ Γ = Xᵀ (Δ Δᵀ) X. Unlike K-FAC's usual factors, Σ x xᵀ and Σ δ δᵀ, these
hold what a sequence's positions have in common, which is most of what a change of the weights does to an answer.
Unlike a Fisher of the LoRA factors they do not change when (B, A) turns into (BR, R⁻¹A), which is the same function.
Sources: Martens and Grosse 2015 (K-FAC); Morwani et al. 2024 (partial traces as one step towards the nearest Kronecker
product).

Tensors: `<layer>.G` (d_out, d_out) and `<layer>.C` (d_in, d_in).
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from learning_engine.learning.capture import Watch
from learning_engine.learning.model import lora_weights

Tensors = dict[str, torch.Tensor]


class KroneckerSums(Watch):
    """Σ_n Γ_n Γ_nᵀ and Σ_n Γ_nᵀ Γ_n of each adapted layer of `model`."""

    def __init__(self, model: Any) -> None:
        layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
        super().__init__(model, layers)
        self._wide = torch.promote_types(next(iter(lora_weights(model).values())).dtype, torch.float32)
        home = _home(model, layers)
        self._sums: Tensors = {
            f"{name}.{half}": torch.zeros(width, width, dtype=self._wide, device=home)
            for name, layer in layers.items()
            for half, width in (("G", layer.out_features), ("C", layer.in_features))
        }

    def returned(self, name: str, entered: torch.Tensor, gradient: torch.Tensor) -> None:
        # At padding δ is exactly zero and x finite, so that every product is zero.
        x, delta = entered.to(self._wide), gradient.to(self._wide)
        self._add(f"{name}.G", delta, (x @ x.mT) @ delta)
        self._add(f"{name}.C", x, (delta @ delta.mT) @ x)

    def sums(self) -> Tensors:
        return self._sums

    def finish(self, *, n_tokens: int, draws: int) -> Tensors:
        found: Tensors = {}
        for key, total in self._sums.items():
            divisor = total.trace().clamp_min(torch.finfo(total.dtype).tiny) if key.endswith(".C") else draws * n_tokens
            found[key] = (total / divisor).cpu()
        return found

    def _add(self, key: str, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add Σ_n left_nᵀ right_n, as one product over all positions of the batch."""
        left, right, total = self.tokens(left), self.tokens(right), self._sums[key]
        if total.device == left.device:
            total.addmm_(left.mT, right)
        else:
            total += (left.mT @ right).to(total.device)


def accumulate(new: Mapping[str, torch.Tensor], old: Mapping[str, torch.Tensor], decay: float) -> Tensors:
    """One pair of factors for F_new + decay · F_old, both dense: G adds up, and C is the mean weighted by the trace of
    its G, so that the trace of F stays exact."""
    return one_pair({key: torch.stack([old[key] if key.endswith(".C") else decay * old[key], new[key]]) for key in new})


def one_pair(stacked: Mapping[str, torch.Tensor]) -> Tensors:
    """One pair of factors for Σ_k G_k ⊗ C_k; the tensors have k as their first axis."""
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


def _home(model: Any, layers: Mapping[str, Any]) -> torch.device:
    """Where the sums lie: beside the model, or in the host's memory where they would crowd it out of the GPU's."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.device(device)
    needed = sum(4 * (layer.in_features**2 + layer.out_features**2) for layer in layers.values())
    free, _ = torch.cuda.mem_get_info(device)
    return torch.device(device) if 2 * needed < free else torch.device("cpu")
