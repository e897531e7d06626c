"""KTO, Kahneman-Tversky Optimization: liked answers become more likely than under the parent, disliked ones less.

L = (1/N) Σ_n w_n (1 − σ(β r_n (Δ_n − kl))), 0 ≤ L ≤ max w, dimensionless, over the N rows of an optimizer step;
Δ_n = log π(y_n | x_n) − log π_ref(y_n | x_n) in nats, summed over the answer's supervised tokens;
kl = max(0, mean_n (log π(y'_n | x_n) − log π_ref(y'_n | x_n))) in nats, without gradient;
r_n = 1 for a liked and −1 for a disliked answer, w_n the weight of that rating. π_ref is the model when training
begins, that is the parent. Source: Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization, 2024;
the terms are those of TRL's KTOTrainer.

y'_n is an answer to another prompt. Each row keeps the same y'_n throughout the training, so π_ref is evaluated once
per row and a resumed training continues exactly. kl is taken over all micro-batches of the step, with dropout off, so
that gradient accumulation gives the loss of the whole batch. A training on a single row has no y'_n: kl is 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from learning_engine.learning.batches import IGNORED, Row, Rows, collate, longest_first
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded


class Kto:
    """The objective `kto`. `seed` decides how rows are paired; the reference runs on `batch_size` rows at once.

    `partner` maps each row to the row whose answer is its y'_n, `reference` holds log π_ref(y_n | x_n) by row, and `kl`
    belongs to the current step.
    """

    def __init__(self, *, beta: float, seed: int, batch_size: int) -> None:
        self._beta, self._seed, self._batch_size = beta, seed, batch_size

    def prepare(self, loaded: Loaded, rows: Rows, used: np.ndarray) -> list[str]:
        """Pair the rows and evaluate the reference: two forward passes over the training data, in eval mode."""
        self._rows, self._room = rows, int(rows.lengths[used].max())
        order = np.random.default_rng(self._seed).permutation(used)
        self.partner = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
        self.reference = torch.full((len(rows),), torch.nan, device=loaded.device)
        self._mismatched_reference = self.reference.clone()
        self.kl = torch.zeros((), device=loaded.device)
        for chosen in longest_first(rows.lengths, used, batch_size=self._batch_size):
            batch = _to(collate([rows[index] for index in chosen]), loaded.device)
            with torch.no_grad():
                self.reference[batch["index"]] = answer_log_probs(loaded.model, batch)
                self._mismatched_reference[batch["index"]] = answer_log_probs(loaded.model, self.mismatched(batch))
        return []

    def begin_step(self, model: Any, batches: Sequence[dict[str, Any]]) -> float:
        """Measure the kl of this step; returns N."""
        if batches and len(self.partner) > 1:
            training = model.training
            # Dropout would draw random numbers before a resumed training has restored the generator's state.
            model.eval()
            with torch.no_grad():
                changes = [
                    answer_log_probs(model, self.mismatched(batch)) - self._mismatched_reference[batch["index"]]
                    for batch in batches
                ]
            model.train(training)
            self.kl = torch.cat(changes).mean().clamp(min=0)
        return float(sum(len(batch["index"]) for batch in batches))

    def __call__(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Σ_n of the losses of the batch, at the kl of the current step."""
        change = answer_log_probs(model, batch) - self.reference[batch["index"]]
        losses = kto_losses(change, self.kl, ratings=batch["rating"], weights=batch["weight"], beta=self._beta)
        return losses.sum()

    def mismatched(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch's prompts, each with its partner's answer."""
        pairs = [(self._rows[index], self._rows[self.partner[index]]) for index in batch["index"].tolist()]
        rows = [mismatch(row, partner, room=self._room) for row, partner in pairs]
        return _to(collate(rows), batch["input_ids"].device)


def kto_losses(
    change: torch.Tensor, kl: torch.Tensor, *, ratings: torch.Tensor, weights: torch.Tensor, beta: float
) -> torch.Tensor:
    """The loss of each row (n,) from Δ (n,), the scalar kl, the ratings 1 or −1 (n,) and their weights (n,)."""
    # σ(−z) equals 1 − σ(z) without cancellation for large z.
    return weights.to(change.dtype) * torch.sigmoid(-beta * ratings * (change - kl))


def answer_log_probs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """log π(y_n | x_n) of each row (n,) in nats, summed over its supervised tokens."""
    logits, tokens, _ = supervised_logits(model, batch["input_ids"], batch["labels"])
    log_probs = -functional.cross_entropy(logits, tokens, reduction="none")
    supervised = batch["labels"][:, 1:] != IGNORED
    return log_probs.new_zeros(supervised.shape).masked_scatter(supervised, log_probs).sum(dim=1)


def mismatch(asked: Row, answered: Row, *, room: int) -> Row:
    """The prompt of `asked` with the answer of `answered`; beyond `room` tokens, the start of the prompt is cut."""
    prompt = asked.input_ids[: _answer(asked).start]
    answer = answered.input_ids[_answer(answered)]
    prompt = prompt[max(0, len(prompt) + len(answer) - room) :]
    return Row(
        index=asked.index,
        input_ids=torch.cat((prompt, answer)),
        labels=torch.cat((torch.full_like(prompt, IGNORED), answered.labels[_answer(answered)])),
        weight=asked.weight,
        rating=asked.rating,
        supervised=answered.supervised,
    )


def _answer(row: Row) -> slice:
    """The answer's tokens: everything from the first supervised token."""
    return slice(int((row.labels != IGNORED).int().argmax()), None)


def _to(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
