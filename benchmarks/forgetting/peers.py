"""Other methods' importance measures, on the same rows and weights as this package's Fisher information.

Batched square (Avalanche, PyCIL): F_i = mean over batches of (∂ mean loss/∂θ_i)². Gradients cancel within a batch, so
this is not Fisher information. ΔW diagonal (EWC-LoRA, arXiv 2602.17559): F_ij = Σ_n (∂ℓ_n/∂ΔW_ij)² / Σ_n T_n, here with
one square per sequence; its penalty is ½ Σ_ij F_ij (ΔW − ΔW*)²_ij.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Mapping
from typing import Any

import datasets
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional

from learning_engine.config import sections
from learning_engine.learning import fisher
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.capture import GradientCapture
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded, lora_weights

Tensors = dict[str, torch.Tensor]
A, B = ".lora_A.weight", ".lora_B.weight"


def batched_square(loaded: Loaded, examples: datasets.Dataset, *, batch_size: int) -> Tensors:
    """The squared gradient of each batch's mean loss with observed labels, averaged over the batches."""
    rows, weights = Rows(examples), lora_weights(loaded.model)
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    starts = range(0, len(rows), batch_size)
    for start in starts:
        batch = collate([rows[index] for index in range(start, min(start + batch_size, len(rows)))])
        logits, tokens, _ = supervised_logits(loaded.model, batch["input_ids"], batch["labels"])
        gradients = torch.autograd.grad(functional.cross_entropy(logits, tokens), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            squares[name] += gradient.square() / len(starts)
    return squares


class DeltaSums(GradientCapture):
    """Σ_n of each sequence's squared gradient with respect to ΔW (d_out, d_in), for every adapted layer of `model`."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)})
        self._squares: Tensors = {}

    def on_gradient(self, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        square = (gradient.mT @ inputs).square().sum(0)
        self._squares[name] = self._squares[name] + square if name in self._squares else square

    def sums(self) -> Tensors:
        return self._squares

    def finish(self, *, n_tokens: int, draws: int) -> Tensors:
        return {name: square / (draws * n_tokens) for name, square in self._squares.items()}


def delta_diagonal(loaded: Loaded, examples: datasets.Dataset, settings: sections.Fisher, *, seed: int) -> Tensors:
    """The ΔW diagonal from this package's own pass, so that rows and sampled labels are the same."""
    fisher.SUMS["delta"] = DeltaSums  # type: ignore[assignment]
    chosen = settings.model_copy(update={"structure": "delta"})
    return fisher.compute(loaded, examples, chosen, seed=seed, guards="").tensors


class DeltaQuadratic(nn.Module):
    """½ Σ F (ΔW − ΔW*)², by autograd through the dense ΔW = s·BA; ΔW* is computed from the weights `anchor`."""

    def __init__(self, squares: Tensors, anchor: Mapping[str, torch.Tensor], *, scaling: float) -> None:
        super().__init__()
        self._squares, self._scaling = squares, scaling
        self._anchor = {layer: self._delta(anchor, layer).detach() for layer in squares}

    def forward(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        costs = [
            (square * (self._delta(weights, layer) - self._anchor[layer]).square()).sum()
            for layer, square in self._squares.items()
        ]
        return 0.5 * torch.stack(costs).sum()

    def _delta(self, weights: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
        return self._scaling * weights[layer + B] @ weights[layer + A]
