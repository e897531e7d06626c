"""The objective sft_npo: liked answers are learned, disliked ones become less likely than under the parent."""

import math

import numpy as np
import pytest
import torch

from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.kto import answer_log_probs
from learning_engine.learning.model import lora_weights
from learning_engine.learning.sft_npo import SftNpo
from tests.learning.test_trainer import train

BETA = 0.2


def _log_probs(loaded, rows: Rows) -> np.ndarray:
    with torch.no_grad():
        return answer_log_probs(loaded.model, collate([rows[index] for index in range(len(rows))])).numpy()


def test_the_loss_equals_the_formula_by_hand(load, adapter, examples):
    rows, loaded = Rows(examples), load(adapter)
    objective = SftNpo(beta=BETA, batch_size=4)
    assert objective.prepare(loaded, rows, np.arange(len(rows))) == []
    before = _log_probs(loaded, rows)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    after = _log_probs(loaded, rows)
    losses = [
        weight * (-now if rating > 0 else 2 / BETA * math.log1p(math.exp(BETA * (now - then))))
        for weight, rating, now, then in zip(rows.weights, rows.ratings, after, before, strict=True)
    ]
    batches = [collate([rows[index] for index in part]) for part in np.array_split(np.arange(len(rows)), 3)]
    with torch.no_grad():
        found = sum(objective(loaded.model, batch) for batch in batches) / objective.begin_step(loaded.model, batches)
    assert float(found) == pytest.approx(sum(losses) / (rows.weights * rows.supervised).sum(), rel=1e-4)


def test_it_starts_like_cross_entropy_backwards_and_lets_go(load, adapter, examples):
    rows, loaded = Rows(examples), load(adapter)
    disliked = [row for row in range(len(rows)) if rows.ratings[row] < 0]
    batch = collate([rows[row] for row in disliked])
    objective = SftNpo(beta=BETA, batch_size=4)
    objective.prepare(loaded, rows, np.arange(len(rows)))
    weights = list(lora_weights(loaded.model).values())

    def gradient(loss) -> torch.Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])

    upwards = gradient(-(batch["weight"] * answer_log_probs(loaded.model, batch)).sum())
    torch.testing.assert_close(gradient(objective(loaded.model, batch)), -upwards, rtol=1e-3, atol=1e-4)
    objective.reference += 100 / BETA
    assert gradient(objective(loaded.model, batch)).abs().max() < 1e-6


def test_disliked_answers_fall_behind_liked_ones(load, adapter, examples, tmp_path):
    """Both share the words of their sentences, which become likelier in any case."""
    margins = {}
    for objective in ("sft_npo", "weighted_sft"):
        rows, loaded = Rows(examples), load(adapter, lora={"dropout": 0.0})
        before = _log_probs(loaded, rows)
        train(loaded, examples, tmp_path / objective, objective=objective, epochs=8)
        change = _log_probs(loaded, rows) - before
        assert change[rows.ratings > 0].mean() > 1
        margins[objective] = change[rows.ratings > 0].mean() - change[rows.ratings < 0].mean()
    assert margins["sft_npo"] > margins["weighted_sft"] + 2
