"""The usual K-FAC factors of a layer with many positions per sequence: "expand" of Eschenhagen et al. 2023.

C = mean of x xᵀ over positions, G = Σ δδᵀ / Σ_n T_n, as if the positions of a sequence were independent.
"""

# ruff: noqa: TID253

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from learning_engine.learning import fisher, packing
from learning_engine.learning.kronecker import KroneckerSums


class ExpandSums(KroneckerSums):
    """Σ x xᵀ and Σ δδᵀ instead of the partial traces."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._positions = 0

    def begin_batch(self, predicting: torch.Tensor) -> None:
        super().begin_batch(predicting)
        self._needed = packing.needed_tokens(predicting)[..., None]
        self._positions += int(self._needed.sum())

    def on_gradient(self, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        x, delta = (each[:, : self._needed.shape[1]].float() * self._needed for each in (inputs, gradient))
        self._add(f"{name}.G", delta, delta)
        self._add(f"{name}.C", x, x)

    def finish(self, *, n_tokens: int, draws: int) -> dict[str, torch.Tensor]:
        # x is added once per draw, like δ.
        counts = {"G": draws * n_tokens, "C": draws * self._positions}
        return {key: (total / counts[key[-1]]).cpu() for key, total in self._sums.items()}


@contextmanager
def expanded() -> Iterator[None]:
    """Within the block, `fisher.structure: kronecker` uses the usual K-FAC factors."""
    ours, fisher.SUMS["kronecker"] = fisher.SUMS["kronecker"], ExpandSums
    try:
        yield
    finally:
        fisher.SUMS["kronecker"] = ours
