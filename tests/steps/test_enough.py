"""After tokenization, the task `fisher` counts again what is left to train on and to judge by."""

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from learning_engine.airflow import weekly_tasks
from learning_engine.learning import base as base_model
from learning_engine.records.contracts import Dataset
from learning_engine.steps import enough as enough_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests.steps.conftest import Loop, feedback_rows, week

LONG = "grey " * 60


class Task:
    """The context of a task, which keeps the XComs that it pushes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, loop: Loop, force: str = "none") -> None:
        self.pushed: dict[str, Any] = {}
        context = {"params": {"force": force}, "ti": self}
        monkeypatch.setattr(weekly_tasks, "get_current_context", lambda: context)
        monkeypatch.setattr(weekly_tasks, "resources_of", lambda _: loop.resources)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def wordy(loop: Loop, *, short: int) -> Dataset:
    """A week in which all answers but every `short`th (0: none) are longer than `dataset.max_tokens`."""
    rows = feedback_rows(0)
    for index, row in enumerate(rows):
        if not short or index % short:
            row["response_data"]["choices"][0]["message"]["content"] = LONG
    loop.feedback.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return extract_step.extract(loop.resources, week(0), widen=False)


@pytest.fixture
def brief(loop: Loop) -> Loop:
    return loop.with_settings(dataset={"max_tokens": 48}, gate={"min_heldout": 4})


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to load the base model's weights fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(base_model, "load_base", refuse)


@pytest.mark.usefixtures("unloadable")
def test_a_training_that_tokenization_leaves_too_little_for_is_skipped(
    brief: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = wordy(brief, short=7)
    counted = enough_step.enough(
        brief.resources.settings, rows=dataset.rows, heldout=dataset.heldout, users=dataset.users
    )
    assert counted.passed, "before tokenization it seems enough"
    task = Task(monkeypatch, brief)
    with pytest.raises(AirflowSkipException) as skipped:
        weekly_tasks.fisher(dataset.to_json())
    verdict = task.pushed["verdict"]
    assert (verdict["passed"], verdict["forced"], verdict["why"]) == (False, False, str(skipped.value))
    assert 0 < verdict["rows"] < 10
    assert verdict["heldout"] < 4 <= (dataset.heldout or 0)
    assert list(verdict["dropped"]) == ["answer_truncated"]
    assert f"dropped rows: answer_truncated {verdict['dropped']['answer_truncated']}: raise dataset.max_tokens" in str(
        skipped.value
    )


def test_a_training_with_enough_left_runs_and_so_does_a_forced_one(
    brief: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(monkeypatch, brief)
    record = weekly_tasks.fisher(wordy(brief, short=1).to_json())
    assert record["guards"] == "base"
    assert task.pushed["verdict"]["dropped"] == {}
    assert (task.pushed["verdict"]["passed"], task.pushed["verdict"]["forced"]) == (True, False)
    for force in ("count", "quality"):
        task = Task(monkeypatch, brief, force)
        assert weekly_tasks.fisher(wordy(brief, short=7).to_json())["guards"] == "base"
        assert (task.pushed["verdict"]["passed"], task.pushed["verdict"]["forced"]) == (True, True)


@pytest.mark.usefixtures("unloadable")
@pytest.mark.parametrize("force", ["none", "count", "quality"])
def test_nothing_trains_without_a_row(brief: Loop, monkeypatch: pytest.MonkeyPatch, force: str) -> None:
    Task(monkeypatch, brief, force)
    with pytest.raises(AirflowSkipException, match=r"^after tokenization 0 rows to train on, 1 is needed; 0 held-out"):
        weekly_tasks.fisher(wordy(brief, short=0).to_json())


def test_what_is_left_is_what_training_and_gate_count(brief: Loop) -> None:
    dataset = wordy(brief, short=2)
    left = enough_step.after_tokenization(brief.resources, dataset)
    candidate = train_step.train(brief.resources, dataset, fisher_step.fisher(brief.resources, dataset))
    assert left.rows == candidate.training.examples
    report = evaluate_step.evaluate(brief.resources, dataset, candidate)
    assert left.heldout == report.heldout_conversations
    assert left.dropped["answer_truncated"] == dataset.rows - left.rows - report.heldout_rows
