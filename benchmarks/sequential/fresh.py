"""Methods without old data that start a new adapter for each task and add the earlier ones to the base weights.

O-LoRA (arXiv 2310.14152): λ Σ |A_past Aᵀ|, the sum of absolute values of its released code, with the rows of all
earlier A stacked in A_past; the new adapter's rows become orthogonal to theirs. ELLA (arXiv 2601.02232):
λ ‖ΔW ⊙ W_past‖²_F with W_past = Σ ΔW over the earlier tasks; entries that moved far are held most firmly.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import math
from collections.abc import Mapping

import datasets
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from learning_engine.learning import ewc
from learning_engine.learning.model import Loaded, lora_weights

Tensors = dict[str, torch.Tensor]
A, B = ".lora_A.weight", ".lora_B.weight"


class Orthogonal(nn.Module):
    """Σ |A_past Aᵀ| over the layers; `past` has A_past (rows, d_in) by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.past: Tensors = {}

    def add(self, layer: str, down: torch.Tensor, _: torch.Tensor) -> None:
        self.past[layer] = torch.cat([self.past[layer], down]) if layer in self.past else down

    def forward(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([(past @ weights[layer + A].mT).abs().sum() for layer, past in self.past.items()]).sum()


class Ella(nn.Module):
    """‖ΔW ⊙ W_past‖²_F summed over the layers; `past` has W_past (d_out, d_in) by layer."""

    def __init__(self, scaling: float) -> None:
        super().__init__()
        self.past: Tensors = {}
        self._scaling = scaling

    def add(self, layer: str, _: torch.Tensor, change: torch.Tensor) -> None:
        self.past[layer] = self.past[layer] + change if layer in self.past else change

    def forward(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        costs = [
            (self._scaling * (weights[layer + B] @ weights[layer + A]) * past).square().sum()
            for layer, past in self.past.items()
        ]
        return torch.stack(costs).sum()


class FreshAdapter:
    """The penalty `form` on the new adapter, which `measure` starts from `seed` after each task."""

    def __init__(self, form: Orthogonal | Ella, strength: float, *, seed: int) -> None:
        self._form, self._strength = form, strength
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def measure(self, loaded: Loaded, rows: datasets.Dataset) -> None:  # noqa: ARG002 (this method needs no data)
        """Add ΔW to the base weights, which must be float32, and set the adapter to a new one, where ΔW = 0."""
        weights, scaling = lora_weights(loaded.model), loaded.lora.alpha / loaded.lora.rank
        for layer, module in loaded.model.named_modules():
            if not isinstance(module, LoraLayer):
                continue
            down, up = weights[layer + A], weights[layer + B]
            change = scaling * (up @ down)
            module.get_base_layer().weight.add_(change)
            self._form.add(layer, down.clone(), change)
            down.copy_(nn.init.kaiming_uniform_(torch.empty(down.shape), a=math.sqrt(5), generator=self._generator))
            up.zero_()

    def penalty(self, loaded: Loaded) -> ewc.Penalty:  # noqa: ARG002 (the form holds what it needs)
        return ewc.Penalty(self._form, self._strength)

    def nbytes(self) -> int:
        return sum(past.nbytes for past in self._form.past.values())
