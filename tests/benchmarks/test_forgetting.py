"""The forgetting benchmarks at a tiny size: peers, the chain of weeks, the choice of settings, the plot."""

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from forgetting import chain, lessons, pareto, peers, study, texts, world
from forgetting.chain import Outcome, Run
from forgetting.methods import Method

from learning_engine.config import sections
from learning_engine.learning.model import lora_weights

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
LANGUAGE = lessons.Language(names=12, things=3, phrasings=4, openings=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six known facts, then two weeks of three."""
    folder = tmp_path_factory.mktemp("base")
    known, *weeks = lessons.facts(LANGUAGE, [6, 3, 3], seed=0)
    base_rows = lessons.rows(LANGUAGE, known, range(4), seed=0)
    pretraining = world.Pretraining(steps=60, batch=12)
    base = world.make_base(folder / "model", len(LANGUAGE.words()), base_rows, pretraining, seed=0, **SHAPE)
    taught = tuple(lessons.rows(LANGUAGE, week, range(4), seed=0) for week in weeks)
    score = world.row_accuracy
    load = world.adapter_loader(base, ("q_proj", "k_proj", "v_proj", "o_proj"), rank=4)
    return world.World(load, base_rows, base_rows, taught, taught, score, steps=25, batch_size=6)


@pytest.fixture
def moved(small):
    """A model whose adapter is not at zero, so that every factor has a gradient."""
    loaded = small.load(1)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight.add_(0.1 * torch.randn(weight.shape))
    return loaded


def _losses(loaded, rows):
    """Summed loss of each row with its observed labels."""
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        logits = loaded.model(input_ids=ids).logits[0, :-1]
        yield functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")


def test_batched_square_is_the_squared_gradient_of_the_batch_mean(moved, small):
    rows = small.weeks[0].select(range(4))
    loss = sum(_losses(moved, rows)) / 8  # two words of the answer in each of four rows
    weights = lora_weights(moved.model)
    expected = torch.autograd.grad(loss, list(weights.values()))
    found = peers.batched_square(moved, rows, batch_size=4)
    for name, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(found[name], gradient.square(), rtol=1e-4, atol=1e-9)


def test_delta_diagonal_squares_each_sequence_gradient_of_the_weight_change(moved, small):
    rows = small.weeks[0].select(range(4))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weight = moved.model.get_submodule(layer).base_layer.weight
    weight.requires_grad_(True)
    squares = sum(torch.autograd.grad(loss, weight)[0].square() for loss in _losses(moved, rows))
    weight.requires_grad_(False)
    settings = sections.Fisher(labels="observed", batch_size=4)
    found = peers.delta_diagonal(moved, rows, settings, seed=0)
    torch.testing.assert_close(found[layer], squares / 8, rtol=1e-4, atol=1e-9)


def test_delta_penalty_is_the_weighted_square_of_the_dense_change(moved, small):
    anchor = {name: weight.detach().clone() for name, weight in lora_weights(moved.model).items()}
    layers = [name.removesuffix(peers.A) for name in anchor if name.endswith(peers.A)]
    squares = {
        layer: torch.rand(anchor[layer + peers.B].shape[0], anchor[layer + peers.A].shape[1]) for layer in layers
    }
    form = peers.DeltaQuadratic(squares, anchor, scaling=2.0)
    assert float(form(anchor)) == 0
    now = {name: weight + 0.1 for name, weight in anchor.items()}
    dense = [
        2 * (now[layer + peers.B] @ now[layer + peers.A] - anchor[layer + peers.B] @ anchor[layer + peers.A])
        for layer in layers
    ]
    expected = sum(0.5 * (squares[layer] * change**2).sum() for layer, change in zip(layers, dense, strict=True))
    torch.testing.assert_close(form(now), expected)


@pytest.mark.parametrize(
    "penalty",
    ["kronecker", *(pytest.param(name, marks=pytest.mark.stack) for name in ("none", "diagonal", "batched", "delta"))],
)
def test_a_chain_scores_base_and_all_weeks_after_each_week_and_is_deterministic(penalty, small):
    method = Method(penalty, penalty, replay=2, anchors=2, ewc_lambda=1.0, learning_rate=1e-2)
    first, again = (chain.run(small, method, seed=3) for _ in range(2))
    assert [len(row) for row in first.scores] == [3, 3, 3]
    assert first == again


def test_a_strong_penalty_keeps_the_base_and_without_one_it_is_forgotten(small):
    free = chain.run(small, Method("nothing", learning_rate=3e-2), seed=0)
    held = chain.run(small, Method("Kronecker", "kronecker", ewc_lambda=1e5, learning_rate=3e-2), seed=0)
    assert free.scores[0][0] > 0.9
    assert free.learned > held.learned
    assert held.base > free.base


def test_an_outcome_computes_its_figures_from_the_scores():
    outcome = Outcome(((1.0, 0.0, 0.1), (0.8, 0.9, 0.0), (0.5, 0.6, 0.7)))
    assert outcome.learned == pytest.approx(0.8)
    assert outcome.kept == pytest.approx(0.6)
    assert outcome.base == pytest.approx(0.5)
    assert outcome.retained == pytest.approx(0.55)
    assert outcome.overall == pytest.approx((0.5 + 0.65) / 2)
    assert outcome.forgotten == pytest.approx((0.5 + 0.3) / 2)


def _run(name, ewc_lambda, *, learned, kept, seed=100):
    outcome = Outcome(((1.0, 0.0, 0.0), (1.0, learned, 0.0), (kept, kept, learned)))
    return Run(seed, Method(name, ewc_lambda=ewc_lambda), outcome, 1.0)


def test_the_choice_retains_most_among_those_that_learn_enough():
    plan = study.Study("x", lambda *_: None, (), (1e-3,), ("learned",), "retained", slack=0.05)
    runs = [
        _run("a", 1, learned=1.0, kept=0.2),
        _run("a", 2, learned=0.96, kept=0.6),
        _run("a", 3, learned=0.9, kept=0.9),
        _run("b", 1, learned=0.8, kept=0.5),
        _run("b", 2, learned=0.7, kept=0.9),
    ]
    assert study.choose(plan, runs, "a").ewc_lambda == 2
    assert study.choose(plan, runs, "b").ewc_lambda == 1


def test_rows_hold_medians_and_each_seed():
    plan = study.Study("x", lambda *_: None, (), (1e-3,), ("learned", "kept"), "kept", slack=0.05)
    runs = [_run("a", 2, learned=0.9, kept=kept, seed=seed) for seed, kept in enumerate((0.1, 0.5, 0.3))]
    [row] = study.rows(plan, runs)
    assert (row["method"], row["lambda"], row["kept"]) == ("a", 2, 0.3)
    assert row["kept_by_seed"] == [0.1, 0.5, 0.3]
    assert row["seeds"] == [0, 1, 2]


def test_the_plot_is_written(tmp_path):
    runs = [_run("a", 1, learned=0.9, kept=0.2), _run("b", 1, learned=0.8, kept=0.4)]
    pareto.plot("x", "kept", runs, runs, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_no_two_facts_share_a_name():
    groups = lessons.facts(LANGUAGE, [6, 3, 3], seed=0)
    names = [fact.name for group in groups for fact in group]
    assert len(set(names)) == 12


def test_row_accuracy_is_at_most_token_accuracy(small):
    rows = small.known.select(range(8))
    llama = small.load(0).model
    assert 0 < world.row_accuracy(llama, rows) <= world.token_accuracy(llama, rows)


@pytest.mark.parametrize("kind", [*texts.KNOWN, *texts.WEEKS])
def test_every_kind_of_text_exists_in_this_python_and_is_long_enough(kind):
    taught, test = texts.rows(kind(), window=64, counts=(400, 100), seed=0)
    assert (len(taught), len(test)) == (400, 100)
    assert {tuple(row) for row in test["input_ids"]}.isdisjoint(tuple(row) for row in taught["input_ids"])


def test_a_text_that_is_too_short_raises_an_error():
    with pytest.raises(ValueError, match="Expected 5 pieces of 64 bytes, found 1"):
        texts.rows("a" * 100, window=64, counts=(3, 2), seed=0)
