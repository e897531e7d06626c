"""Loss, gain and margin on held-out answers, in nats per token.

Loss of a set of rows: L = Σ_n ℓ_n / Σ_n T_n, where ℓ_n = −Σ_t log p(y_t | y_<t, x) over the T_n supervised tokens of
row n: the mean over tokens, not over rows.

Gain: L_parent − L_candidate on the same rows. Its lower bound is the 5th percentile over paired bootstrap resamples of
whole conversations, a one-sided 95 % interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13;
Davison and Hinkley, Bootstrap Methods and their Application, 1997, ch. 3.8). Rows of one conversation are correlated,
so resampling single rows would make the interval too narrow.
"""

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.views import View, Views
from learning_engine.learning.batches import IGNORED
from learning_engine.learning.forward import supervised_logits

CONFIDENCE = 0.95
# Bounds the memory of one round of the bootstrap: 4 million indices take 32 MB.
_ROUND = 4_000_000


@dataclass(frozen=True)
class RowLosses:
    """Per row: `total`, the summed loss in nats, and `tokens`, the number of supervised tokens; both (rows,).

    `first`: whether each token is the model's first choice, under teacher forcing, (tokens of all rows,) in row order.
    """

    total: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    first: npt.NDArray[np.bool_]

    def mean(self) -> float | None:
        """Mean loss in nats per supervised token; None without a token."""
        return float(self.total.sum() / self.tokens.sum()) if self.tokens.sum() else None

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "RowLosses":
        return RowLosses(self.total[rows], self.tokens[rows], self.first[np.repeat(rows, self.tokens)])


@torch.no_grad()
def row_losses(views: Views, view: View, examples: datasets.Dataset, *, batch_size: int) -> RowLosses:
    """Losses of encoded `examples` (columns input_ids and labels), in their order; batches are grouped by length."""
    total, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    first = [np.zeros(0, dtype=bool)] * (len(examples) or 1)
    if not len(examples):
        return RowLosses(total, tokens, first[0])
    columns = examples.with_format(None)[:]
    inputs, labels = columns["input_ids"], columns["labels"]
    with views.using(view):
        for batch in by_length(inputs, batch_size=batch_size):
            ids, _ = pad([inputs[row] for row in batch], value=0, device=views.device)
            targets, _ = pad([labels[row] for row in batch], value=IGNORED, device=views.device)
            logits, observed, places = supervised_logits(views.model, ids, targets)
            losses = F.cross_entropy(logits, observed, reduction="none").double()
            totals = torch.zeros(len(batch), dtype=torch.float64, device=ids.device).index_add_(0, places, losses)
            total[batch] = totals.cpu().numpy()
            tokens[batch] = torch.bincount(places, minlength=len(batch)).cpu().numpy()
            chosen = (logits.argmax(dim=-1) == observed).cpu().numpy()
            for row, part in zip(batch, np.split(chosen, np.cumsum(tokens[batch])[:-1]), strict=True):
                first[row] = part
    return RowLosses(total, tokens, np.concatenate(first))


def margin(losses: RowLosses, liked: npt.NDArray[np.bool_]) -> float | None:
    """Mean log-probability per token of liked answers minus that of disliked ones; None if either is missing."""
    of_liked, of_disliked = losses[liked].mean(), losses[~liked].mean()
    return None if of_liked is None or of_disliked is None else of_disliked - of_liked


def paired_bootstrap(
    candidate: RowLosses, parent: RowLosses, conversations: npt.NDArray[Any], *, draws: int, seed: int
) -> float | None:
    """Lower bound of the one-sided 95 % interval of the gain (parent − candidate), in nats per token.

    `conversations` (rows,) names each row's conversation. A resampled conversation counts for both models, so that its
    difficulty cancels out. None with fewer than two conversations, which show no variation between conversations.
    """
    gains = _resampled_gains(candidate, parent, conversations, draws=draws, generator=np.random.default_rng(seed))
    return None if gains is None else float(np.quantile(gains, 1 - CONFIDENCE))


def margin_growth(
    candidate: RowLosses,
    parent: RowLosses,
    liked: npt.NDArray[np.bool_],
    conversations: npt.NDArray[Any],
    *,
    draws: int,
    seed: int,
) -> float | None:
    """Upper bound of the one-sided 95 % interval of the growth of the margin over the parent's, in nats per token.

    Conversations with liked and with disliked answers are resampled apart. None with fewer than two of either.
    """
    generator = np.random.default_rng(seed)
    gains = [
        _resampled_gains(candidate[rows], parent[rows], conversations[rows], draws=draws, generator=generator)
        for rows in (liked, ~liked)
    ]
    if gains[0] is None or gains[1] is None:
        return None
    return float(np.quantile(gains[0] - gains[1], CONFIDENCE))


def _resampled_gains(
    candidate: RowLosses,
    parent: RowLosses,
    conversations: npt.NDArray[Any],
    *,
    draws: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64] | None:
    """The gain (parent − candidate) in `draws` resamples of the conversations; None with fewer than two of these."""
    _, group = np.unique(conversations, return_inverse=True)
    difference = np.bincount(group, weights=parent.total - candidate.total)
    tokens = np.bincount(group, weights=candidate.tokens)
    if len(tokens) < 2 or not tokens.sum():
        return None
    gains = []
    for start in range(0, draws, step := max(1, _ROUND // len(tokens))):
        drawn = generator.integers(len(tokens), size=(min(step, draws - start), len(tokens)))
        gains.append(difference[drawn].sum(axis=1) / np.maximum(tokens[drawn].sum(axis=1), 1))
    return np.concatenate(gains)
