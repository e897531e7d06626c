"""sft_npo: learn liked answers word by word, and push disliked ones below their likelihood under the parent.

L = (Σ_liked w_n Σ_t ℓ_nt + Σ_disliked w_n (2 / β) log(1 + exp(β Δ_n))) / Σ_n w_n T_n in nats per supervised token,
with ℓ_nt = −log p(y_t | y_<t, x), w_n the weight of row n's rating, T_n its number of supervised tokens, and
Δ_n = log π(y_n | x_n) − log π_ref(y_n | x_n) in nats, summed over the answer's supervised tokens; π_ref is the model
when training begins, that is the parent.

The second term is negative preference optimization. At first it pushes a disliked answer down as strongly as
cross-entropy would push it up, and it lets go once the answer has become less likely by a few times 1 / β nats, so it
cannot ruin the model as plain gradient ascent does. Words that liked answers share become likelier all the same.
Source: Zhang et al., Negative Preference Optimization, 2024.
"""

# ruff: noqa: ARG002 (not every objective needs every argument)

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from learning_engine.learning.batches import Rows, collate, longest_first
from learning_engine.learning.kto import answer_log_probs
from learning_engine.learning.model import Loaded


class SftNpo:
    """The objective `sft_npo`. `reference` holds log π_ref(y_n | x_n) by row, of disliked rows only."""

    def __init__(self, *, beta: float, batch_size: int) -> None:
        self._beta, self._batch_size = beta, batch_size

    def prepare(self, loaded: Loaded, rows: Rows, used: np.ndarray) -> list[str]:
        """Evaluate the reference: one forward pass over the disliked rows, in eval mode."""
        self.reference = torch.zeros(len(rows), device=loaded.device)
        disliked = used[rows.ratings[used] < 0]
        for chosen in longest_first(rows.lengths, disliked, batch_size=self._batch_size):
            batch = collate([rows[index] for index in chosen])
            batch = {name: batch[name].to(loaded.device) for name in ("input_ids", "labels", "index")}
            with torch.no_grad():
                self.reference[batch["index"]] = answer_log_probs(loaded.model, batch)
        return []

    def begin_step(self, model: Any, batches: Sequence[dict[str, Any]]) -> float:
        """Σ_n w_n T_n."""
        return float(sum(batch["supervised_weight"] for batch in batches))

    def __call__(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """The summed losses of the batch, in nats."""
        log_probs = answer_log_probs(model, batch)
        change = log_probs - self.reference[batch["index"]]
        pushed = 2 / self._beta * functional.softplus(self._beta * change)
        losses = torch.where(batch["rating"] > 0, -log_probs, pushed)
        weights: torch.Tensor = batch["weight"].to(losses.dtype)
        return (weights * losses).sum()
