"""The base model writes its own anchor, once: its answers to the package's prompts and to its own."""

import weakref
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning_engine.feedback.dataset import encode
from learning_engine.learning.base import load_tokenizer
from learning_engine.steps import anchor, reservoirs
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from learning_engine.steps.resources import read_window
from tests import tiny
from tests.steps.conftest import Loop, week


@pytest.fixture(scope="session")
def fluent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model that ends its turns, and those of users."""
    directory = tiny.make_base(tmp_path_factory.mktemp("fluent") / "base")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    rows = [torch.tensor([row["input_ids"]]) for row in tiny.examples(tokenizer, 48, seed=1)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for ids in rows * 3:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def anchored(loop: Loop, fluent: Path) -> Loop:
    return loop.with_settings(model={"base": str(fluent)}, fisher={"anchor": "self", "anchor_prompts": 24})


def _rows(loop: Loop, path: Path) -> list[dict]:
    assert anchor.fetch(loop.resources, path)
    return pq.read_table(path).to_pylist()


def test_it_is_written_once_and_kept(anchored: Loop, tmp_path: Path) -> None:
    rows = _rows(anchored, tmp_path / "first.parquet")
    (stored,) = anchored.resources.store.list("anchors/")
    assert _rows(anchored, tmp_path / "second.parquet") == rows
    assert list(anchored.resources.store.list("anchors/")) == [stored]
    assert 12 <= len(rows) <= 24
    assert {(row["rating"], row["user"]) for row in rows} == {(1, None)}
    assert {row["heldout"] for row in rows} == {True, False}
    assert all(row["answer"].strip() for row in rows)


def test_half_of_its_prompts_are_the_bases_own(anchored: Loop, tmp_path: Path) -> None:
    prompts = [row["messages"][0]["content"] for row in _rows(anchored, tmp_path / "anchor.parquet")]
    own = [prompt for prompt in prompts if any(thing in prompt for thing in tiny.THINGS)]
    assert 4 <= len(own) <= 12
    assert len(set(prompts)) == len(prompts)


def test_the_first_version_is_protected_and_trained_by_it(anchored: Loop, tmp_path: Path) -> None:
    rows = _rows(anchored, tmp_path / "anchor.parquet")
    record = fisher_step.get_or_measure(anchored.resources, None)
    assert (record.guards, record.n_sequences) == ("base", sum(not row["heldout"] for row in rows))
    assert record.trace > 0
    replaying = anchored.with_settings(training={"replay": 0.5, "epochs": 1})
    anchored.teach(0)
    snapshot = tmp_path / "snapshot.parquet"
    read_window(replaying.resources, week(0), snapshot)
    base = reservoirs.of_base(replaying.resources, tmp_path)
    joined = reservoirs.joined(replaying.resources, "a run", snapshot, [], base).path
    own = pq.read_metadata(snapshot).num_rows
    replayed = pq.read_table(joined).to_pylist()[own:]
    assert replayed
    assert not any(row["unfinished"] for row in pq.read_table(joined).to_pylist()[:own])
    assert all(row in rows for row in replayed)
    without_users = replaying.with_settings(training={"replay_rows": 0})
    assert reservoirs.stage(without_users.resources, "a run", snapshot, []) is None, "no user's text is kept"
    again = pq.read_table(reservoirs.joined(without_users.resources, "a run", snapshot, [], base).path)
    assert again.to_pylist()[-len(replayed) :] == replayed, "but the base's own rows are replayed"


def test_the_report_says_if_there_are_too_few_rows_to_replay(anchored: Loop, tmp_path: Path) -> None:
    base = [row for row in _rows(anchored, tmp_path / "anchor.parquet") if not row["heldout"]]
    loop = anchored.with_settings(training={"replay": 0.8, "epochs": 1.0})
    loop.teach(0, 1)
    first, second = loop.learn(week(0)), loop.learn(week(1))
    of_windows = second.training.replayed - len(base)
    assert first.training.replayed == len(base)
    assert of_windows > 0
    share = second.training.replayed / second.training.examples
    found = f"made up {share:.1%} of the training, below the 80.0%"
    assert [note for note in second.report.notes if found in note and f"{of_windows} rows" in note]
    assert [note for note in second.report.notes if f"{len(base)} of the anchor" in note]
    assert [note for note in first.report.notes if "no row of an earlier window" in note]


@pytest.fixture
def alive_at_loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many base models were in memory each time that another one was loaded."""
    found, models = [], weakref.WeakSet[torch.nn.Module]()
    load = AutoModelForCausalLM.from_pretrained

    def counting(*args: Any, **options: Any) -> Any:
        found.append(len(models))
        model = load(*args, **options)
        models.add(model)
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", counting)
    return found


def test_an_anchor_that_is_missing_is_written_while_no_other_model_is_loaded(
    anchored: Loop, alive_at_loads: list[int]
) -> None:
    """As after an upgrade, or with ewc.lambda 0, which measures nothing on the anchor before training."""
    loop = anchored.with_settings(ewc={"lambda_": 0.0}, training={"replay": 0.5, "epochs": 1.0})
    loop.teach(0)
    dataset = extract_step.extract(loop.resources, week(0), widen=True)
    candidate = train_step.train(loop.resources, dataset, fisher_step.fisher(loop.resources, dataset))
    assert candidate.training.replayed > 0
    loop.resources.store.delete([item.key for item in loop.resources.store.list("anchors/")])
    assert evaluate_step.evaluate(loop.resources, dataset, candidate).manners.conversations > 0
    assert alive_at_loads == [0, 0, 0, 0], "the anchor's base and the candidate, in train and in evaluate"


def test_a_version_is_judged_by_what_is_left_of_the_base(anchored: Loop) -> None:
    strict = anchored.with_settings(gate={"max_base_rise": 0.1, "max_base_kl": 100})
    strict.teach(0)
    report = strict.learn(week(0)).report
    (rule,) = (rule for rule in report.rules if rule.name == "base")
    assert report.manners.conversations > 0
    assert report.manners.left < 1
    assert rule.figure == report.manners.loss - report.manners.loss_base
    assert rule.passed == (rule.figure <= 0.1)


def test_an_answer_that_the_base_does_not_end_is_cut_and_taught_without_an_end(loop: Loop, tmp_path: Path) -> None:
    """A base with random weights ends almost no answer."""
    random = loop.with_settings(fisher={"anchor": "self", "anchor_prompts": 8})
    path = tmp_path / "anchor.parquet"
    rows = _rows(random, path)
    settings = random.resources.settings
    tokenizer = load_tokenizer(settings.model)
    examples = encode(path, tokenizer, settings.dataset, heldout=None).examples
    last = [row["labels"][-1] for row in examples]
    unfinished = [rows[row["row"]]["unfinished"] for row in examples]
    assert any(unfinished)
    assert [token != tokenizer.eos_token_id for token in last] == unfinished


def test_another_base_or_number_of_prompts_has_another(anchored: Loop, loop: Loop) -> None:
    names = {
        anchor.identity(each.resources)
        for each in (
            anchored,
            anchored.with_settings(fisher={"anchor_prompts": 25}),
            loop.with_settings(fisher={"anchor": "self", "anchor_prompts": 24}),
        )
    }
    assert len(names) == 3
