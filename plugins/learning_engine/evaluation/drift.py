"""Drift: how far the candidate moved from its parent and from the base, as KL in nats per token.

KL(reference ‖ candidate) = Σ_y p_ref(y) (log p_ref(y) − log p_cand(y)) over the whole vocabulary, averaged over tokens
of answers: the parent's own ones to fixed prompts, or rated ones. A prompt's tokens do not count, since many are the
chat template's, which no model writes. On the answers of earlier windows, the EWC penalty predicts it to second order
as ½ (θ − θ*)ᵀ F (θ − θ*), if F is from labels without smoothing.
"""

from collections.abc import Sequence

import datasets
import torch
import torch.nn.functional as F

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.figures import Drift
from learning_engine.evaluation.views import View, Views
from learning_engine.learning.batches import IGNORED
from learning_engine.learning.forward import supervised_logits


def on_prompts(
    views: Views, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, batch_size: int
) -> Drift:
    """Drift from parent and base over the tokens of `answers` to the rendered `prompts`; None without an answer."""
    inputs = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    labels = [[IGNORED] * len(prompt) + list(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    references: list[View] = ["parent", "base"] if views.has_parent else ["base"]
    found = _divergences(views, inputs, labels, references, batch_size=batch_size)
    return Drift(parent=found.get("parent", found.get("base")), base=found.get("base"))


def on_answers(views: Views, examples: datasets.Dataset, *, batch_size: int) -> float | None:
    """Drift from the parent over the supervised tokens of encoded `examples`; None without such a token."""
    if not len(examples):
        return None
    columns = examples.with_format(None)[:]
    found = _divergences(views, columns["input_ids"], columns["labels"], ["parent"], batch_size=batch_size)
    return found.get("parent")


@torch.no_grad()
def _divergences(
    views: Views,
    inputs: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    references: Sequence[View],
    *,
    batch_size: int,
) -> dict[View, float]:
    """Mean KL(reference ‖ candidate) over the supervised tokens, by reference; empty without such a token."""
    sums, count = dict.fromkeys(references, 0.0), 0
    for batch in by_length(inputs, batch_size=batch_size):
        ids, _ = pad([inputs[row] for row in batch], value=0, device=views.device)
        targets, _ = pad([labels[row] for row in batch], value=IGNORED, device=views.device)
        candidate, _ = log_probabilities(views, "candidate", ids, targets)
        for reference in references:
            sums[reference] += divergence(log_probabilities(views, reference, ids, targets)[0], candidate)
        count += len(candidate)
    return {reference: total / count for reference, total in sums.items()} if count else {}


def log_probabilities(
    views: Views, view: View, ids: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (supervised tokens, vocabulary) in float32, and the tokens that stand there."""
    with views.using(view):
        logits, observed, _ = supervised_logits(views.model, ids, targets)
        return F.log_softmax(logits, dim=-1), observed


def divergence(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """KL(reference ‖ candidate), summed over the tokens."""
    return float(F.kl_div(candidate, reference, reduction="none", log_target=True).sum(dim=-1).double().sum())
