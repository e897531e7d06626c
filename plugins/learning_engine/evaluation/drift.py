"""Drift: how far the candidate moved from its parent and from the base, as KL in nats per token.

KL(reference ‖ candidate) = Σ_y p_ref(y) (log p_ref(y) − log p_cand(y)) over the whole vocabulary, averaged over tokens:
all tokens of fixed prompts, or the supervised tokens of rated answers. On the answers of earlier windows, the EWC
penalty predicts it to second order as ½ (θ − θ*)ᵀ F (θ − θ*), if F is from labels without smoothing.
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


@torch.no_grad()
def on_prompts(views: Views, prompts: Sequence[Sequence[int]], *, batch_size: int) -> Drift:
    """Drift from parent and base over all tokens of the rendered `prompts`; None without a prompt."""
    references: list[View] = ["parent", "base"] if views.has_parent else ["base"]
    sums, count = dict.fromkeys(references, 0.0), 0
    for batch in by_length(prompts, batch_size=batch_size):
        ids, mask = pad([prompts[row] for row in batch], value=0, device=views.device)
        candidate = _of_prompts(views, "candidate", ids, mask)
        for reference in references:
            sums[reference] += _divergence(_of_prompts(views, reference, ids, mask), candidate)
        count += int(mask.sum())
    if not count:
        return Drift(None, None)
    base = sums["base"] / count
    return Drift(parent=sums["parent"] / count if views.has_parent else base, base=base)


@torch.no_grad()
def on_answers(views: Views, examples: datasets.Dataset, *, batch_size: int) -> float | None:
    """Drift from the parent over the supervised tokens of encoded `examples`; None without such a token."""
    if not len(examples):
        return None
    columns, total, count = examples.with_format(None)[:], 0.0, 0
    inputs, labels = columns["input_ids"], columns["labels"]
    for batch in by_length(inputs, batch_size=batch_size):
        ids, _ = pad([inputs[row] for row in batch], value=0, device=views.device)
        targets, _ = pad([labels[row] for row in batch], value=IGNORED, device=views.device)
        candidate, parent = (_of_answers(views, view, ids, targets) for view in ("candidate", "parent"))
        total += _divergence(parent, candidate)
        count += len(parent)
    return total / count if count else None


def _of_prompts(views: Views, view: View, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) in float32, without the padding."""
    with views.using(view):
        return F.log_softmax(views.logits(ids)[mask.bool()].float(), dim=-1)


def _of_answers(views: Views, view: View, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (supervised tokens, vocabulary) in float32."""
    with views.using(view):
        logits, _, _ = supervised_logits(views.model, ids, targets)
        return F.log_softmax(logits, dim=-1)


def _divergence(reference: torch.Tensor, candidate: torch.Tensor) -> float:
    """KL(reference ‖ candidate), summed over the tokens."""
    return float(F.kl_div(candidate, reference, reduction="none", log_target=True).sum(dim=-1).double().sum())
