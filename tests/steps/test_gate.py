"""The gate's inputs from a whole run: users, conversations, weights, the chain's matrix."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from learning_engine.config.sections import Columns
from learning_engine.errors import IntegrityError
from learning_engine.feedback import heldout
from learning_engine.records.contracts import Candidate, Dataset
from learning_engine.records.report import Report, Rule
from learning_engine.registry import manifest
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests import tiny
from tests.steps.conftest import Loop, feedback_rows, week


def learned(loop: Loop, number: int = 0) -> tuple[Dataset, Candidate]:
    dataset = extract_step.extract(loop.resources, week(number), widen=False)
    return dataset, train_step.train(loop.resources, dataset, fisher_step.fisher(loop.resources, dataset))


def rule(report: Report, name: str) -> Rule:
    return next(found for found in report.rules if found.name == name)


def test_a_report_contains_the_chains_matrix_and_its_drift(loop: Loop) -> None:
    loop.teach(0, 1, 2)
    first, second, third = (loop.learn(week(number)) for number in range(3))
    assert first.report.matrix == first.report.drift_windows == {}
    assert first.report.summary.forgotten is None
    assert third.report.matrix == {
        "v1.0": {"v1.0": first.report.loss},
        "v1.1": {"v1.0": second.report.scores["v1.0"], "v1.1": second.report.loss},
    }
    now, losses = third.report.scores, [version.report.loss or 0 for version in (first, second, third)]
    summary = third.report.summary
    assert summary.learned == pytest.approx(sum(losses) / 3)
    assert summary.backward_transfer == pytest.approx((losses[0] - now["v1.0"] + losses[1] - now["v1.1"]) / 2)
    best = min(losses[0], second.report.scores["v1.0"], now["v1.0"])
    assert summary.forgotten == pytest.approx((now["v1.0"] - best + now["v1.1"] - min(losses[1], now["v1.1"])) / 2)
    assert set(third.report.drift_windows) == {"v1.0", "v1.1"}
    assert all(drift > 0 for drift in third.report.drift_windows.values())
    card = loop.resources.store.get_bytes("adapters/v1.2/README.md").decode()
    assert "| R | v1.0's window | v1.1's window | v1.2's window |" in card


def test_users_and_conversations_are_counted_from_the_window(loop: Loop) -> None:
    loop.teach(0)
    known = loop.with_settings(feedback={"columns": Columns(user="user_id")}, gate={"min_users": 7})
    dataset, candidate = learned(known)
    report = evaluate_step.evaluate(known.resources, dataset, candidate)
    assert (rule(report, "users").figure, rule(report, "users").passed) == (7.0, True)
    assert report.heldout_conversations == rule(report, "heldout").figure
    assert rule(report, "integrity").passed
    unknown = replace(dataset, users=None)
    assert rule(evaluate_step.evaluate(loop.resources, unknown, candidate), "users").passed
    assert not rule(evaluate_step.evaluate(known.resources, unknown, candidate), "users").passed


def test_rows_of_one_conversation_count_once(loop: Loop) -> None:
    """Held-out rows from only a few conversations are not enough for a verdict."""
    lines = loop.feedback
    loop.teach(0)
    text = lines.read_text()
    for index in range(40):
        text = text.replace(f'"0-{index}"', f'"0-{index % 4}"')
    lines.write_text(text)
    dataset, candidate = learned(loop.with_settings(dataset={"heldout_fraction": 0.5}))
    strict = loop.with_settings(gate={"min_heldout": 5})
    report = evaluate_step.evaluate(strict.resources, dataset, candidate)
    assert dataset.conversations == 4
    assert report.heldout_rows >= 10 > 4 >= (report.heldout_conversations or 0)
    assert not rule(report, "heldout").passed


def test_disliked_answers_that_are_not_trained_on_are_judged_by(loop: Loop) -> None:
    loop.teach(0)
    unweighted = loop.with_settings(dataset={"weight_down": 0.0, "heldout_fraction": 0.5})
    dataset, candidate = learned(unweighted)
    (dropped,) = candidate.training.dropped.items()
    assert dropped[0] == "zero_weight"
    assert candidate.training.examples + dropped[1] + evaluated_rows(unweighted, dataset) == dataset.rows
    report = evaluate_step.evaluate(unweighted.resources, dataset, candidate)
    assert rule(report, "margin").figure is not None
    assert report.heldout_rows == evaluated_rows(unweighted, dataset)


def evaluated_rows(loop: Loop, dataset: Dataset) -> int:
    store = loop.resources.store
    snapshot = pq.read_table(BytesIO(store.get_bytes(store.key(dataset.uri))))
    held: list[bool] = snapshot["heldout"].to_pylist()
    return held.count(True)


def test_a_candidate_with_a_modified_archive_is_never_judged(loop: Loop) -> None:
    loop.teach(0)
    dataset, candidate = learned(loop)
    store = loop.resources.store
    key = store.key(candidate.uri)
    data = store.get_bytes(key)
    store.put_bytes(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=candidate.sha256[:12]):
        evaluate_step.evaluate(loop.resources, dataset, candidate)


def teach_facts(loop: Loop, number: int, shift: int, *asked: str) -> None:
    """A week in which users teach one colour of each thing, in five conversations each, `asked` in turn."""
    asked = asked or ("which colour has the {}",)
    rows = feedback_rows(number)
    for index, row in enumerate(rows):
        thing, colour = tiny.THINGS[index % 8], tiny.COLOURS[(index + shift) % 8]
        row["request_data"] = {"messages": [{"role": "user", "content": asked[index // 8 % len(asked)].format(thing)}]}
        row["response_data"] = {"choices": [{"message": {"content": f"The {thing} is {colour}."}}]}
        row["feedback_type"] = "thumbs_up"
    with loop.feedback.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_later_versions_are_judged_on_what_a_window_taught(loop: Loop, tmp_path: Path) -> None:
    teach_facts(loop, 0, shift=0)
    teach_facts(loop, 1, 1, "what is the {} like")
    first = loop.learn(week(0)).report
    key, file = manifest.heldout_key("v1.0"), tmp_path / "heldout.parquet"
    loop.resources.store.get_file(key, file)
    places = heldout.taught(file)
    assert places
    assert sum(map(len, places.values())) == first.taught.places > 0
    dataset, candidate = learned(loop, 1)
    report = evaluate_step.evaluate(loop.resources, dataset, candidate)
    kept = report.kept["v1.0"]
    assert (kept.conversations, kept.best) == (first.taught.conversations, first.taught.candidate)
    assert kept.base == pytest.approx(first.taught.base)
    assert kept.retained == pytest.approx((kept.candidate - kept.base) / (kept.best - kept.base))
    assert rule(report, "retained").figure == kept.retained
    assert report.superseded == {}
    # A held-out set of an older version of the package has no such column.
    pq.write_table(pq.read_table(file).drop_columns(["taught"]), file)
    loop.resources.store.put_file(key, file)
    older = evaluate_step.evaluate(loop.resources, dataset, candidate)
    assert older.kept == {}
    assert older.scores == report.scores
    assert rule(older, "retained").figure == report.retained["v1.0"]


def test_a_week_that_replaces_an_earlier_one_is_not_judged_by_it(loop: Loop) -> None:
    """New prices, new opening hours: nobody wants the old answers back."""
    teach_facts(loop, 0, shift=0)
    teach_facts(loop, 1, shift=1)
    teach_facts(loop, 2, shift=1)
    first, second = loop.learn(week(0)), loop.learn(week(1)).report
    assert len(second.superseded["v1.0"]) == first.report.taught.places > 0
    assert "Later feedback contradicts all of v1.0." in rule(second, "retained").why
    assert rule(second, "retained").passed
    assert second.best == second.scores == {}
    third = loop.learn(week(2)).report
    assert (third.superseded, "v1.0" in third.scores, "v1.1" in third.scores) == ({}, False, True)


def test_a_contradiction_counts_wherever_it_is_found(loop: Loop) -> None:
    """Without a column of conversations, equal prompts are held out in every week."""
    alone = loop.with_settings(
        feedback={"columns": Columns(user="user_id", conversation=None)}, dataset={"heldout_fraction": 0.5}
    )
    for number in range(2):
        teach_facts(
            alone, number, number, *(f"{polite} colour has the {{}}" for polite in ("what", "which", "say what"))
        )
    first, second = alone.learn(week(0)), alone.learn(week(1)).report
    assert first.report.taught.places > 0
    assert len(second.superseded["v1.0"]) == first.report.taught.places
