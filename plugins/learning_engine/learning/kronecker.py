"""Kronecker-factored Fisher information of the weight change: what ΔW = s·BA may not do to what the model says now.

For an adapted layer y = (W₀ + ΔW) x, δ = ∂(Σ_n ℓ_n)/∂y and the gradient of sequence n, Γ_n = Σ_t δ_nt x_ntᵀ, the Fisher
information is F = Σ_n vec Γ_n (vec Γ_n)ᵀ / Σ_n T_n. Kept is F ≈ G ⊗ C with its two partial traces
  G = Σ_n Γ_n Γ_nᵀ / Σ_n T_n (d_out, d_out)      C = Σ_n Γ_nᵀ Γ_n / Σ_n ‖Γ_n‖² (d_in, d_in)
so that the trace of F is exact; F is in nats per supervised token. No Γ is ever formed: with X, Δ the positions of one
sequence as rows, Γ Γᵀ = Δᵀ (X Xᵀ) Δ and Γᵀ Γ = Xᵀ (Δ Δᵀ) X. Unlike K-FAC's usual factors, Σ x xᵀ and Σ δ δᵀ, these
hold what a sequence's positions have in common, which is most of what a change of the weights does to an answer.
Unlike a Fisher of the LoRA factors they do not change when (B, A) turns into (BR, R⁻¹A), which is the same function.
Sources: Martens and Grosse 2015 (K-FAC); Morwani et al. 2024 (partial traces as one step towards the nearest Kronecker
product).

Tensors: `<layer>.G` (k, d_out, d_out) and `<layer>.C` (k, d_in, d_in); F = Σ_k G_k ⊗ C_k, k is 1 unless weeks are kept
apart.
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
            found[key] = (total / divisor)[None].cpu()
        return found

    def _add(self, key: str, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add Σ_n left_nᵀ right_n, as one product over all positions of the batch."""
        left, right, total = self.tokens(left), self.tokens(right), self._sums[key]
        if total.device == left.device:
            total.addmm_(left.mT, right)
        else:
            total += (left.mT @ right).to(total.device)


def accumulate(
    new: Mapping[str, torch.Tensor], old: Mapping[str, torch.Tensor], decay: float, *, apart: bool
) -> Tensors:
    """F = F_new + decay · F_old of dense factors.

    `apart` keeps every week's pair, which is exact and grows; else one pair stands for all: G adds up, and C is the
    mean weighted by the trace of its G, so that the trace of F stays exact.
    """
    both = {key: torch.cat([old[key] if key.endswith(".C") else decay * old[key], new[key]]) for key in new}
    return both if apart else _folded(both)


def _folded(tensors: Tensors) -> Tensors:
    folded: Tensors = {}
    for key, inputs in tensors.items():
        if key.endswith(".C"):
            outputs = tensors[key.removesuffix(".C") + ".G"]
            weight = outputs.diagonal(dim1=1, dim2=2).sum(1)
            share = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
            folded[key] = (share[:, None, None] * inputs).sum(0, keepdim=True)
        else:
            folded[key] = inputs.sum(0, keepdim=True)
    return folded


def _home(model: Any, layers: Mapping[str, Any]) -> torch.device:
    """Where the sums lie: beside the model, or in the host's memory where they would crowd it out of the GPU's."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.device(device)
    needed = sum(4 * (layer.in_features**2 + layer.out_features**2) for layer in layers.values())
    free, _ = torch.cuda.mem_get_info(device)
    return torch.device(device) if 2 * needed < free else torch.device("cpu")
