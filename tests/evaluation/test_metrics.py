"""Losses, bootstrap and margin, compared with numbers computed by hand and row by row."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from learning_engine.config import sections
from learning_engine.evaluation import batching, metrics
from learning_engine.evaluation.drift import on_prompts
from learning_engine.evaluation.metrics import RowLosses, margin, paired_bootstrap, row_losses
from learning_engine.evaluation.views import View, Views, load_views
from tests import tiny
from tests.evaluation.conftest import LORA, SECOND, encode


def losses(totals: list[float], tokens: list[int]) -> RowLosses:
    return row_losses_of(np.array(totals, dtype=np.float64), np.array(tokens, dtype=np.int64))


def row_losses_of(total: Any, tokens: Any) -> RowLosses:
    return RowLosses(total, tokens, np.zeros(tokens.sum(), dtype=bool))


@pytest.mark.parametrize("view", ["candidate", "parent", "base"])
@torch.no_grad()
def test_losses_equal_those_computed_row_by_row(views: Views, separate: dict[str, Any], view: View) -> None:
    examples = tiny.examples(views.tokenizer, 13, seed=4)
    found = row_losses(views, view, examples, batch_size=4)
    for row, total, tokens in zip(examples, found.total, found.tokens, strict=True):
        mean = separate[view](input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        assert tokens == sum(label != -100 for label in row["labels"])
        assert total / tokens == pytest.approx(float(mean), abs=1e-5)
    chosen = [separate[view](torch.tensor([row["input_ids"]])).logits[0, :-1].argmax(-1).tolist() for row in examples]
    assert found.first.tolist() == [
        choice == label
        for choices, row in zip(chosen, examples, strict=True)
        for choice, label in zip(choices, row["labels"][1:], strict=True)
        if label != -100
    ]
    some = np.arange(13) % 3 == 0
    assert (
        found[some].first.tolist()
        == np.concatenate(
            [part for part, kept in zip(np.split(found.first, np.cumsum(found.tokens)[:-1]), some, strict=True) if kept]
        ).tolist()
    )


def test_a_uniform_model_has_the_loss_log_of_the_vocabulary_size(
    model: sections.Model, candidate: Path, tmp_path: Path
) -> None:
    base = tiny.make_base(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"].zero_()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    views = load_views(sections.Model(base=str(base), device="cpu"), LORA, candidate=candidate, parent=None)
    examples = encode(views.tokenizer, SECOND)
    found = row_losses(views, "candidate", examples, batch_size=2)
    assert found.mean() == pytest.approx(np.log(len(views.tokenizer)), abs=1e-6)
    ids = examples["input_ids"]
    assert on_prompts(views, [row[:4] for row in ids], [row[4:] for row in ids], batch_size=2).base == pytest.approx(
        0.0, abs=1e-7
    )


def test_the_mean_is_over_tokens_not_rows() -> None:
    assert losses([1.0, 9.0], [1, 3]).mean() == 2.5
    assert losses([], []).mean() is None


def test_an_empty_set_has_no_loss(views: Views) -> None:
    assert row_losses(views, "base", datasets.Dataset.from_list([]), batch_size=4).mean() is None


def test_the_margin_is_liked_minus_disliked_log_probability() -> None:
    found, liked = losses([2.0, 4.0, 12.0], [2, 4, 4]), np.array([True, True, False])
    assert margin(found, liked) == 2.0  # liked −1 nat per token, disliked −3
    assert margin(found, np.array([True, True, True])) is None
    assert margin(found, np.array([False, False, False])) is None


def bound(candidate: RowLosses, parent: RowLosses, *, draws: int = 1000, seed: int = 0) -> float | None:
    """The bound if each row is a separate conversation."""
    return paired_bootstrap(candidate, parent, np.arange(len(candidate.tokens)), draws=draws, seed=seed)


def test_the_bound_matches_the_normal_approximation_of_the_mean() -> None:
    rows, noise = 400, np.random.default_rng(0).normal(size=400)
    gain = 0.2 + (noise - noise.mean()) / noise.std()
    hard = np.random.default_rng(1).normal(100, 50, size=rows)  # the same for both models: it must cancel
    tokens = np.ones(rows, dtype=np.int64)
    found = bound(row_losses_of(hard, tokens), row_losses_of(hard + gain, tokens), draws=20_000, seed=5)
    assert found == pytest.approx(0.2 - 1.645 / np.sqrt(rows), abs=0.004)


@pytest.mark.parametrize("ordered", [True, False])
def test_whole_conversations_are_resampled(ordered: bool) -> None:
    """Rows that repeat their conversation add no information: the interval is that of 25 samples, not of 400."""
    noise = np.random.default_rng(0).normal(size=25)
    gain = np.repeat(0.2 + (noise - noise.mean()) / noise.std(), 16)
    names = np.repeat([f"conversation {i}" for i in range(25)], 16)
    order = np.arange(400) if ordered else np.random.default_rng(2).permutation(400)
    tokens = np.ones(400, dtype=np.int64)
    candidate, parent = row_losses_of(np.zeros(400), tokens), row_losses_of(gain[order], tokens)
    found = paired_bootstrap(candidate, parent, names[order], draws=20_000, seed=5)
    assert found == pytest.approx(0.2 - 1.645 / np.sqrt(25), abs=0.02)
    assert bound(candidate, parent) == pytest.approx(0.2 - 1.645 / np.sqrt(400), abs=0.02)


def test_one_conversation_has_no_bound() -> None:
    candidate, parent = losses([1.0, 2.0, 3.0], [1, 1, 1]), losses([2.0, 3.0, 4.0], [1, 1, 1])
    assert paired_bootstrap(candidate, parent, np.array(["a", "a", "a"]), draws=100, seed=0) is None
    assert paired_bootstrap(candidate, parent, np.array(["a", "b", "a"]), draws=100, seed=0) == 1.0


@pytest.mark.parametrize(("effect", "positive"), [(0.0, False), (0.5, True), (-0.5, False)])
def test_only_a_clear_gain_has_a_bound_above_zero(effect: float, positive: bool) -> None:
    generator, tokens = np.random.default_rng(7), np.full(100, 10, dtype=np.int64)
    candidate = row_losses_of(generator.normal(20, 5, size=100), tokens)
    parent = row_losses_of(candidate.total + 10 * (effect + generator.normal(0, 0.5, size=100)), tokens)
    found = bound(candidate, parent, draws=2000, seed=1)
    assert found is not None
    assert (found > 0) is positive


def test_rows_are_weighted_by_their_tokens() -> None:
    # 10 tokens gain 1 nat each, 90 lose 0.1 each: −0.1 in the quarter of the draws with only the second row.
    candidate, parent = losses([0.0, 9.0], [10, 90]), losses([10.0, 0.0], [10, 90])
    assert bound(candidate, parent) == pytest.approx(-0.1)
    same = losses([3.0, 27.0], [10, 90])
    assert bound(losses([1.0, 9.0], [10, 90]), same) == pytest.approx(0.2)


def test_the_bound_depends_only_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, tokens = np.random.default_rng(3), np.full(50, 5, dtype=np.int64)
    candidate, parent = (row_losses_of(generator.normal(size=50), tokens) for _ in range(2))
    bounds = [bound(candidate, parent, draws=999, seed=seed) for seed in (1, 1, 2)]
    assert bounds[0] == bounds[1] != bounds[2]
    monkeypatch.setattr(metrics, "_ROUND", 1000)
    assert bound(candidate, parent, draws=999, seed=1) == bounds[0]


def test_without_rows_there_is_no_bound() -> None:
    assert bound(losses([], []), losses([], [])) is None


def test_batches_hold_every_row_once_within_the_token_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_TOKENS", 20)
    rows = [[0] * length for length in (3, 30, 7, 1, 0, 5, 5)]
    batches = list(batching.by_length(rows, batch_size=3))
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert batches[0] == [1]
    for batch in batches:
        assert len(batch) <= 3
        assert len(batch) == 1 or len(batch) * max(len(rows[index]) for index in batch) <= 20
