"""What is left of the base model in its own conversations: the held-out part of the anchor."""

import datasets
import torch
import torch.nn.functional as F

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.drift import divergence, log_probabilities
from learning_engine.evaluation.views import Views
from learning_engine.learning.batches import IGNORED
from learning_engine.records.report import Manners


@torch.no_grad()
def of_base(views: Views, examples: datasets.Dataset, *, batch_size: int) -> Manners:
    """Compare candidate and base over the supervised tokens of encoded `examples`, in one pass of each."""
    columns = examples.with_format(None)[:] if len(examples) else {"input_ids": [], "labels": []}
    inputs, labels = columns["input_ids"], columns["labels"]
    tokens, same = 0, 0
    loss, loss_base, kl = 0.0, 0.0, 0.0
    for batch in by_length(inputs, batch_size=batch_size):
        ids, _ = pad([inputs[row] for row in batch], value=0, device=views.device)
        targets, _ = pad([labels[row] for row in batch], value=IGNORED, device=views.device)
        candidate, observed = log_probabilities(views, "candidate", ids, targets)
        base, _ = log_probabilities(views, "base", ids, targets)
        tokens += len(observed)
        same += int((candidate.argmax(-1) == base.argmax(-1)).sum())
        loss += float(F.nll_loss(candidate, observed, reduction="sum"))
        loss_base += float(F.nll_loss(base, observed, reduction="sum"))
        kl += divergence(base, candidate)
    if not tokens:
        return Manners()
    return Manners(len(inputs), same / tokens, loss / tokens, loss_base / tokens, kl / tokens)
