"""The sequential benchmark on a tiny model: scoring of labels, the chain of tasks, data-free methods, targets."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import standard_cl
from sequential import chain, cost, likelihood, tasks
from sequential.fresh import A, B, Ella, FreshAdapter, Orthogonal
from sequential.methods import METHODS, Method
from sequential.tasks import Questions

from learning_engine.learning.model import lora_weights
from tests import tiny

LABELS = ["red", "light blue"]
PLAIN, RATE = METHODS[0], 2e-2


def write_task(directory, name, *, always=None):
    """40 rows to train on and 8 to test on; the label is `always`, or each in turn."""
    rows = [
        {"sentence": f"The {thing} number {number}.", "label": always or LABELS[number % 2]}
        for number, thing in enumerate(tiny.THINGS * 5)
    ]
    found = {"kind": "TC", "labels": LABELS, "train": rows[:40], "test": rows[40:48]}
    (directory / f"{name}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two tasks with opposite answers to the same questions."""
    data = tmp_path_factory.mktemp("data")
    write_task(data, "sst2", always="red")
    write_task(data, "agnews", always="light blue")
    base = tiny.make_base(tmp_path_factory.mktemp("base") / "model")
    return chain.World(str(base), data, "cpu", rows=16, test_rows=8, epochs=12)


@pytest.fixture
def moved(world):
    """A model whose adapter changes the outputs."""
    loaded = world.load(1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return loaded


def one_by_one(loaded, prompts, answers):
    """log p(answer | prompt) from a forward pass for each pair."""
    scores = torch.zeros(len(prompts), len(answers))
    for row, prompt in enumerate(prompts):
        for column, answer in enumerate(answers):
            with torch.no_grad():
                logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0]
            predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
            scores[row, column] = predicted[torch.arange(len(answer)), torch.tensor(answer)].sum()
    return scores


def test_the_likelihood_of_each_label_is_that_of_a_pass_of_its_own(moved):
    prompts, answers = [[5, 6, 7], [9, 8, 7, 6, 5, 4], [30]], [[11, 12], [13], [11, 40, 41]]
    found = likelihood.log_likelihoods(moved, prompts, answers)
    torch.testing.assert_close(found, one_by_one(moved, prompts, answers), rtol=1e-4, atol=1e-4)


def test_the_likeliest_label_is_chosen(moved, monkeypatch):
    monkeypatch.setitem(likelihood.BATCH, "cpu", 2)
    prompts, answers = [[5, 6, 7], [9, 8, 7, 6, 5, 4], [30]], [[11, 12], [13], [11, 40, 41]]
    best = one_by_one(moved, prompts, answers).argmax(1).tolist()
    assert likelihood.accuracy(moved, Questions(prompts, answers, best)) == 1
    wrong = [best[0], (best[1] + 1) % 3, (best[2] + 1) % 3]
    assert likelihood.accuracy(moved, Questions(prompts, answers, wrong)) == pytest.approx(1 / 3)


def test_a_task_asks_through_the_chat_template_and_names_its_labels(world):
    (task,) = world.tasks(["agnews"])
    tokenizer = chain.load_tokenizer(world.settings)
    asked = tokenizer.decode(task.test.prompts[0])
    assert "topic" in asked
    assert "Option: red, light blue\nThe" in asked
    assert asked.endswith("<|assistant|>")
    assert [tokenizer.decode(answer) for answer in task.test.answers] == [label + tiny.END for label in LABELS]
    assert task.test.right == [1] * 8
    assert len(task.train) == 16


def test_labels_are_equally_frequent_in_a_part():
    rows = [{"sentence": str(number), "label": "ab"[number > 5]} for number in range(8)]
    assert [row["sentence"] for row in tasks.balanced(rows, 5)] == ["0", "6", "1", "7", "2"]
    assert len(tasks.balanced(rows, None)) == 8


def test_settings_are_chosen_on_rows_that_nothing_trains_on(world):
    whole = replace(world, rows=None, test_rows=None, development=True)
    (task,) = whole.tasks(["sst2"])
    trained = [row["input_ids"][: row["prompt_length"]] for row in task.train]
    assert len(trained) == 20
    assert len(task.test.prompts) == 20
    assert not [prompt for prompt in task.test.prompts if prompt in trained]
    (reported,) = replace(whole, development=False).tasks(["sst2"])
    assert not [prompt for prompt in task.test.prompts if prompt in reported.test.prompts]


@pytest.mark.parametrize("order", [("sst2", "agnews"), ("agnews", "sst2")], ids="→".join)
def test_the_last_task_of_an_order_wins_without_protection(order, world, tmp_path):
    start = chain.begin(world, order, RATE, tmp_path / "adapter", seed=0)
    begun = world.load(0, Path(start.adapter))
    assert [likelihood.accuracy(begun, task.test) for task in world.tasks(order)] == [1, 0]
    outcome = chain.follow(world, order, PLAIN, RATE, start, seed=0)
    assert outcome.first == (1.0, 1.0)
    assert outcome.final == (0.0, 1.0)
    assert (outcome.average, outcome.learned, outcome.transfer) == (0.5, 1.0, -1.0)


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    return chain.begin(world, ("sst2", "agnews"), RATE, tmp_path_factory.mktemp("start") / "adapter", seed=0)


# O-LoRA leaves enough room to unlearn, and two replayed rows are outvoted.
@pytest.mark.parametrize(
    ("name", "strength", "keeps"),
    [
        pytest.param("replay 1%", 0.0, False, marks=pytest.mark.stack),
        ("replay 10%", 0.0, False),
        ("O-LoRA", 0.5, False),
        ("ELLA", 1e9, True),
        ("EWC, diagonal", 1e9, True),
        ("ours", 1e9, True),
        pytest.param("ours + replay 1%", 1e9, True, marks=pytest.mark.stack),
        ("ours + replay 10%", 1e9, True),
    ],
)
def test_each_method_runs_a_chain_and_a_strong_penalty_keeps_the_first_task(name, strength, keeps, world, start):
    (method,) = (method for method in METHODS if method.name == name)
    outcome = chain.follow(world, ("sst2", "agnews"), method.at(strength), RATE, start, seed=0)
    assert outcome.order == ("sst2", "agnews")
    assert outcome.first[0] == start.accuracy == 1
    assert outcome.first[1] == outcome.final[1]
    assert (outcome.final[0] > 0.5) == keeps
    assert outcome.seconds > start.seconds


@pytest.fixture
def trainings(monkeypatch):
    """The number of rows of each training, and how many of them are replayed; nothing is trained."""
    seen = []

    def train(loaded, examples, penalty, training, *, replayed, **_):
        assert replayed == round((len(examples) - replayed) * training.replay / (1 - training.replay))
        seen.append((len(examples), replayed))

    monkeypatch.setattr(chain.trainer, "train", train)
    return seen


@pytest.mark.parametrize(("share", "replayed"), [(0.0, 0), (0.01, 1), (0.5, 8)])
def test_replay_adds_its_share_of_each_earlier_task(share, replayed, world, start, trainings):
    chain.follow(world, ("sst2", "agnews", "sst2"), Method("x", replay=share), RATE, start, seed=0)
    assert trainings == [(16 + replayed, replayed), (16 + 2 * replayed, 2 * replayed)]


def test_joint_training_has_the_rows_of_all_tasks(world, trainings):
    outcome = chain.jointly(world, ("sst2", "agnews"), RATE, seed=0)
    assert trainings == [(32, 0)]
    assert len(outcome.final) == 2
    assert outcome.transfer is None


@pytest.mark.parametrize("form", [Orthogonal(), Ella(2.0)], ids=["O-LoRA", "ELLA"])
def test_a_fresh_adapter_keeps_what_the_model_says(form, moved):
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = moved.model(input_ids=ids).logits
        FreshAdapter(form, 1.0, seed=3).measure(moved, None)
        after = moved.model(input_ids=ids).logits
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    weights = lora_weights(moved.model)
    assert all((weight == 0).all() == name.endswith(B) for name, weight in weights.items())


def test_the_penalties_of_fresh_adapters_are_as_published(moved):
    first = {name: weight.detach().clone() for name, weight in lora_weights(moved.model).items()}
    orthogonal, ella = FreshAdapter(Orthogonal(), 3.0, seed=3), FreshAdapter(Ella(2.0), 3.0, seed=3)
    orthogonal.measure(moved, None)
    second = {name: weight.detach() + 0.1 for name, weight in first.items()}
    ella._form.past = {
        name.removesuffix(A): 2 * first[name[: -len(A)] + B] @ first[name] for name in first if A in name
    }
    layers = list(ella._form.past)
    across = sum((first[layer + A] @ second[layer + A].T).abs().sum() for layer in layers)
    overlap = sum(
        ((2 * second[layer + B] @ second[layer + A]) * (2 * first[layer + B] @ first[layer + A])).square().sum()
        for layer in layers
    )
    with torch.no_grad():
        for name, weight in lora_weights(moved.model).items():
            weight.copy_(second[name])
    torch.testing.assert_close(orthogonal.penalty(moved).quadratic(moved.model), across)
    torch.testing.assert_close(ella.penalty(moved).quadratic(moved.model), overlap)


def test_past_adapters_add_up():
    orthogonal, ella = Orthogonal(), Ella(1.0)
    for form in (orthogonal, ella):
        form.add("x", torch.ones(2, 3), torch.ones(4, 3))
        form.add("x", torch.ones(2, 3), torch.ones(4, 3))
    assert orthogonal.past["x"].shape == (4, 3)
    assert (ella.past["x"] == 2).all()


def test_orders_leave_out_what_the_directory_lacks(world, capsys):
    assert standard_cl.orders_of(world.data, standard_cl.ORDERS) == [("sst2", "agnews")]
    assert "no file in" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="at least two tasks"):
        standard_cl.orders_of(world.data / "none", standard_cl.ORDERS)


def test_the_development_order_is_not_reported():
    assert standard_cl.DEVELOPMENT_ORDER not in standard_cl.ORDERS
    assert {frozenset(order) for order in standard_cl.ORDERS} == {frozenset(standard_cl.DEVELOPMENT_ORDER)}


def test_the_estimate_counts_what_a_chain_does():
    methods = [Method("a"), Method("b", "kronecker", replay=0.5), Method("c", joint=True)]
    work = cost.rows_of(methods, starts=1, tasks=3, rows=10, epochs=2, tests=4)
    # An epoch: first task 10; a: 20; b: 20 + 5 + 10; c: 30.
    # Tests: first task 1; a and b: 2 after learning and 2 at the end; c: 3.
    assert work == {"train": 190, "kronecker": 20, "test": 4 + 2 * 16 + 12}
    assert cost.total({"train": 1.0, "kronecker": 2.0, "test": 0.5}, work) == 190 + 40 + 24


def test_targets_compare_with_methods_without_old_rows_and_with_joint_training():
    names = {method.name: 0.5 for method in METHODS} | {"replay 10%": 0.9, "ELLA": 0.6}
    names |= {"ours": 0.7, "ours + replay 10%": 0.77, "joint training": 0.8}
    rows = [{"method": name, "average": average} for name, average in names.items()]
    ahead, behind = standard_cl.targets(rows)
    assert (ahead.figure, ahead.reached) == (pytest.approx(0.1), True)
    assert (behind.figure, behind.reached) == (pytest.approx(0.03), False)
    assert [target.reached for target in standard_cl.targets(rows[:3])] == [None, None]


@pytest.mark.stack
@pytest.mark.parametrize("tune", [[], ["--tune"]], ids=["report", "tune"])
def test_the_script_writes_a_row_for_each_method(tune, world, tmp_path):
    script = Path(standard_cl.__file__)
    command = [sys.executable, str(script), "--data", str(world.data), "--model", world.model, "--rows", "8"]
    methods = ["--methods", "plain LoRA", "ELLA", "joint training", "--results", str(tmp_path), "--workers", "1"]
    done = subprocess.run(
        [*command, *methods, *tune], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "estimate: " in done.stdout
    found = json.loads((tmp_path / f"standard_cl{'_tune' if tune else ''}.json").read_text())
    names = [row["method"] for row in found["rows"]]
    tried = ["plain LoRA"] * len(standard_cl.RATES) + ["ELLA"] * 3
    assert names == ["base model", *(tried if tune else ["plain LoRA", "ELLA", "joint training"])]
    assert len(found["targets"]) == (0 if tune else 2)
