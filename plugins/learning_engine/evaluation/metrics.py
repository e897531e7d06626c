"""How well a model predicts held-out answers, and how far it moved, in nats per token.

Loss of a set of rows: L = Σ_n ℓ_n / Σ_n T_n, where ℓ_n = −Σ_t log p(y_t | y_<t, x) over the T_n supervised tokens of
row n: the mean over tokens, not over rows.

Gain: L_parent − L_candidate on the same rows. Its lower bound is the 5th percentile over paired bootstrap resamples of
the rows (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): a one-sided interval of 95 %.

Drift: KL(reference ‖ candidate) = Σ_y p_ref(y) (log p_ref(y) − log p_cand(y)) over the whole vocabulary, mean over the
tokens of fixed prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.figures import Drift
from learning_engine.evaluation.views import View, Views
from learning_engine.learning.batches import IGNORED
from learning_engine.learning.forward import supervised_logits

CONFIDENCE = 0.95
# Bounds the memory of one round of the bootstrap: 4 million indices are 32 MB.
_ROUND = 4_000_000


@dataclass(frozen=True)
class RowLosses:
    """Per row: `total`, the summed loss in nats, and `tokens`, the supervised tokens it is over; both (rows,)."""

    total: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]

    def mean(self) -> float | None:
        """Nats per supervised token; None without a token."""
        return float(self.total.sum() / self.tokens.sum()) if self.tokens.sum() else None

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "RowLosses":
        return RowLosses(self.total[rows], self.tokens[rows])


@torch.no_grad()
def row_losses(views: Views, view: View, examples: datasets.Dataset, *, batch_size: int) -> RowLosses:
    """Losses of encoded `examples` (columns input_ids and labels) in their order, batched by length."""
    total, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    if not len(examples):
        return RowLosses(total, tokens)
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
    return RowLosses(total, tokens)


def margin(losses: RowLosses, liked: npt.NDArray[np.bool_]) -> float | None:
    """Mean log-probability per token of liked minus that of disliked answers; None where one side is absent."""
    of_liked, of_disliked = losses[liked].mean(), losses[~liked].mean()
    return None if of_liked is None or of_disliked is None else of_disliked - of_liked


def paired_bootstrap(candidate: RowLosses, parent: RowLosses, *, draws: int, seed: int) -> float | None:
    """Lower bound of the one-sided 95 % interval of the gain (parent − candidate), in nats per token.

    Rows are resampled in pairs, so that what makes a row hard for both cancels. None without a row.
    """
    rows = len(candidate.tokens)
    if not candidate.tokens.sum():
        return None
    difference, generator = parent.total - candidate.total, np.random.default_rng(seed)
    gains = []
    for start in range(0, draws, step := max(1, _ROUND // rows)):
        drawn = generator.integers(rows, size=(min(step, draws - start), rows))
        gains.append(difference[drawn].sum(axis=1) / np.maximum(candidate.tokens[drawn].sum(axis=1), 1))
    return float(np.quantile(np.concatenate(gains), 1 - CONFIDENCE))


@torch.no_grad()
def kl(views: Views, prompts: Sequence[Sequence[int]], *, batch_size: int) -> Drift:
    """How far the candidate moved from parent and base, over all tokens of the rendered `prompts`; None without one."""
    references: list[View] = ["parent", "base"] if views.has_parent else ["base"]
    sums, count = dict.fromkeys(references, 0.0), 0
    for batch in by_length(prompts, batch_size=batch_size):
        ids, mask = pad([prompts[row] for row in batch], value=0, device=views.device)
        candidate = _log_probabilities(views, "candidate", ids, mask)
        for reference in references:
            log_p = _log_probabilities(views, reference, ids, mask)
            divergence = F.kl_div(candidate, log_p, reduction="none", log_target=True).sum(dim=-1)
            sums[reference] += float(divergence.double().sum())
        count += int(mask.sum())
    if not count:
        return Drift(None, None)
    base = sums["base"] / count
    return Drift(parent=sums["parent"] / count if views.has_parent else base, base=base)


def _log_probabilities(views: Views, view: View, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) in float32, without the padding."""
    with views.using(view):
        return F.log_softmax(views.logits(ids)[mask.bool()].float(), dim=-1)
