"""½ Σ_ij F_ij (ΔW − ΔW*)²_ij with ΔW = s·BA: a diagonal penalty on the weight change, as in EWC-LoRA.

F, ΔW* and the change that each step computes are as large as the weight itself. Autograd computes the gradient.
Source: EWC-LoRA, ICLR 2026, arXiv 2602.17559.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Mapping

import torch
from torch import nn

Tensors = Mapping[str, torch.Tensor]
A, B = ".lora_A.weight", ".lora_B.weight"


class WeightChangeDiagonal(nn.Module):
    """`fisher` has one (d_out, d_in) tensor per layer; `anchor` uses the adapter's names."""

    def __init__(self, fisher: Tensors, anchor: Tensors, *, scaling: float) -> None:
        super().__init__()
        self._layers, self._scaling = list(fisher), scaling
        for place, (layer, values) in enumerate(fisher.items()):
            self.register_buffer(f"fisher_{place}", values)
            self.register_buffer(f"anchor_{place}", scaling * (anchor[layer + B] @ anchor[layer + A]))

    def forward(self, weights: Tensors) -> torch.Tensor:
        total = torch.zeros((), device=next(self.buffers()).device)
        for place, layer in enumerate(self._layers):
            change = self._scaling * (weights[layer + B] @ weights[layer + A]) - self.get_buffer(f"anchor_{place}")
            total = total + 0.5 * (self.get_buffer(f"fisher_{place}") * change).flatten().dot(change.flatten())
        return total
