"""The base model writes its own anchor, once: its answers to the package's prompts and to its own."""

import json
import weakref
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning_engine.evaluation import prompts
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
    asked = [row["messages"][0]["content"] for row in _rows(anchored, tmp_path / "anchor.parquet")]
    own = [prompt for prompt in asked if any(thing in prompt for thing in tiny.THINGS)]
    assert 4 <= len(own) <= 12
    assert len(set(asked)) == len(asked)


def _named(loop: Loop, path: Path, *rows: dict[str, Any]) -> Loop:
    """A loop whose anchor is a file of `rows`: an answer to "hello" and some further turns, and changes."""
    lines = [
        {
            "request_data": {"messages": [{"role": "user", "content": "hello"}, *row.pop("turns", [])]},
            "response_data": {"response": f"answer {number}"},
            "feedback_type": "up",
            "created_at": week(0).start.isoformat(),
            "user_id": None,
            "conversation_id": None,
            **row,
        }
        for number, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return loop.with_settings(fisher={"anchor": str(path)})


def _turns(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": "Hi!"}, {"role": "user", "content": text}]


@pytest.mark.parametrize("count", [2, 3, 4, 8, 12, 40])
def test_a_quarter_of_its_conversations_is_held_out_and_at_least_two(loop: Loop, tmp_path: Path, count: int) -> None:
    named = _named(
        loop, tmp_path / "mine.jsonl", *({"conversation_id": f"c{number // 2}"} for number in range(2 * count))
    )
    rows = _rows(named, tmp_path / "anchor.parquet")
    assert len(rows) == 2 * count
    held = {row["conversation"] for row in rows if row["heldout"]}
    assert len(held) == {2: 1, 3: 2, 4: 2, 8: 2, 12: 3, 40: 10}[count]
    assert held.isdisjoint(row["conversation"] for row in rows if not row["heldout"])
    assert max(held) < min({row["conversation"] for row in rows} - held)


def test_a_base_that_answers_few_prompts_is_judged_too(loop: Loop, tmp_path: Path) -> None:
    for count in range(8, 14):
        rows = _rows(
            loop.with_settings(fisher={"anchor": "self", "anchor_prompts": count}), tmp_path / f"{count}.parquet"
        )
        assert sum(row["heldout"] for row in rows) == max(2, len(rows) // 4)


def test_a_file_whose_rows_all_begin_alike_is_divided_by_prompts(loop: Loop, tmp_path: Path) -> None:
    same = [{"turns": _turns(f"question {number // 2}")} for number in range(16)]
    rows = _rows(_named(loop, tmp_path / "mine.jsonl", *same), tmp_path / "anchor.parquet")
    asked = [{json.dumps(row["messages"]) for row in rows if row["heldout"] is part} for part in (True, False)]
    assert (len({row["conversation"] for row in rows}), *map(len, asked)) == (1, 2, 6)
    assert asked[0].isdisjoint(asked[1])


def test_only_the_liked_rows_of_a_file_are_its_anchor(loop: Loop, tmp_path: Path) -> None:
    thumbs = [{"conversation_id": f"c{number}", "feedback_type": ("up", "down")[number % 2]} for number in range(16)]
    rows = _rows(_named(loop, tmp_path / "mine.jsonl", *thumbs), tmp_path / "anchor.parquet")
    assert len(rows) == 8
    assert {row["rating"] for row in rows} == {1}
    assert sum(row["heldout"] for row in rows) == 2


def _of_drift(loop: Loop) -> list[prompts.Messages]:
    evaluation = loop.resources.settings.evaluation
    return prompts.read(evaluation.prompts, limit=evaluation.max_prompts)


def _trained(rows: list[dict]) -> list[prompts.Messages]:
    return [row["messages"] for row in rows if not row["heldout"]]


def test_no_prompt_of_drift_is_trained_on(anchored: Loop, tmp_path: Path) -> None:
    built_in = prompts.read(None, limit=1000)
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in built_in[2:9]))
    own = tmp_path / "own.jsonl"
    written = [row["messages"] for row in _rows(anchored, tmp_path / "first.parquet")]
    own.write_text(
        "".join(json.dumps({"messages": messages}) + "\n" for messages in written if messages not in built_in)
    )
    cases = {
        "the package's": anchored,
        "the base's own": anchored.with_settings(evaluation={"prompts": str(own)}),
        "some of them": anchored.with_settings(evaluation={"prompts": str(file)}),
        "all": anchored.with_settings(evaluation={"max_prompts": 1000}),
    }
    asked = {}
    for name, case in cases.items():
        trained = _trained(_rows(case, tmp_path / f"{name}.parquet"))
        assert trained
        assert all(messages not in _of_drift(case) for messages in trained), name
        asked[name] = sum(messages in built_in for messages in trained)
    assert min(asked["the package's"], asked["some of them"]) >= 6
    assert asked["all"] == 0
    assert len({anchor.identity(case.resources) for case in cases.values()}) == 4
    mine = [{"request_data": {"messages": messages}} for messages in built_in[:32]]
    named = _named(anchored, tmp_path / "mine.jsonl", *mine)
    rows = _rows(named, tmp_path / "named.parquet")
    assert len(rows) == 32
    others = [messages for messages in built_in[:32] if messages not in _of_drift(named)]
    assert sorted(map(json.dumps, _trained(rows))) == sorted(map(json.dumps, others))


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
