"""K-FAC's usual factors for a layer that sees many positions: "expand" of Eschenhagen et al. 2023.

C = mean of x xᵀ over positions, G = Σ δδᵀ / Σ_n T_n, as if the positions of a sequence were
independent.
"""

# ruff: noqa: TID253

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from learning_engine.learning import fisher, packing
from learning_engine.learning.kronecker import KroneckerSums


class ExpandSums(KroneckerSums):
    """Σ x xᵀ and Σ δδᵀ in place of the partial traces."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._positions = 0

    def begin(self, predicting: torch.Tensor) -> None:
        super().begin(predicting)
        self._matters = packing.needed(predicting)[..., None]
        self._positions += int(self._matters.sum())

    def returned(self, name: str, entered: torch.Tensor, gradient: torch.Tensor) -> None:
        x, delta = (each[:, : self._matters.shape[1]].float() * self._matters for each in (entered, gradient))
        self._add(f"{name}.G", delta, delta)
        self._add(f"{name}.C", x, x)

    def finish(self, *, n_tokens: int, draws: int) -> dict[str, torch.Tensor]:
        # x is seen once a draw, like δ.
        counts = {"G": draws * n_tokens, "C": draws * self._positions}
        return {key: (total / counts[key[-1]]).cpu() for key, total in self._sums.items()}


@contextmanager
def expanded() -> Iterator[None]:
    """Within the block `fisher.structure: kronecker` has the usual factors."""
    ours, fisher.SUMS["kronecker"] = fisher.SUMS["kronecker"], ExpandSums
    try:
        yield
    finally:
        fisher.SUMS["kronecker"] = ours
