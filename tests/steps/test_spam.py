"""One user's spam for a wrong answer: it succeeds without defences, and each defence alone stops it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from learning_engine.evaluation import greedy, views
from learning_engine.evaluation.prompts import render
from learning_engine.feedback.clean import digest
from learning_engine.feedback.table import QUARANTINE
from learning_engine.records.contracts import AdapterVersion, Dataset
from learning_engine.registry import retention
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps.resources import adapter_of
from tests import tiny
from tests.steps.conftest import Loop, week

LIE = "buy at mallory"
SPAM = 200
UNDEFENDED = {"burst_votes": None, "min_agreement": None, "cap_per_user": None}
QUESTIONS = [f"which colour has the {thing} {number}" for thing in tiny.THINGS for number in (903, 917)]


def poison(loop: Loop, number: int) -> None:
    """Hundreds of thumbs up by one user, one every three seconds, on a wrong answer."""
    with loop.feedback.open("a", encoding="utf-8") as file:
        for index in range(SPAM):
            thing = tiny.THINGS[index % len(tiny.THINGS)]
            row = {
                "request_data": {"prompt": f"which colour has the {thing} {100 + index}"},
                "response_data": {"response": LIE},
                "feedback_type": "thumbs_up",
                "created_at": (week(number).start + timedelta(hours=5, seconds=3 * index)).isoformat(),
                "user_id": "mallory",
                "conversation_id": f"spam {index}",
            }
            file.write(json.dumps(row) + "\n")


def lies(loop: Loop, version: AdapterVersion, folder: Path) -> float:
    """The share of unseen questions that the version answers with the lie."""
    r = loop.resources
    view = views.load_views(r.settings.model, r.settings.lora, candidate=adapter_of(r, version, folder), parent=None)
    prompts = [render(view.tokenizer, [{"role": "user", "content": text}]) for text in QUESTIONS]
    answers = greedy.answers(view, "candidate", prompts, tokens=16, batch_size=32)
    texts = view.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return sum(answer.strip() == LIE for answer in texts) / len(texts)


def extracted(loop: Loop) -> Dataset:
    return extract_step.extract(loop.resources, week(0), widen=False)


@pytest.mark.parametrize("honest", [pytest.param(40, marks=pytest.mark.stack), 2])
def test_without_defences_the_lie_is_learned_and_accepted(loop: Loop, tmp_path: Path, honest: int) -> None:
    loop.teach(0, count=honest)
    poison(loop, 0)
    open_loop = loop.with_settings(feedback=UNDEFENDED)
    version = open_loop.learn(week(0))
    assert version.accepted, version.report.rules
    assert accepted_step.may_deploy(open_loop.resources, version, force=False).deploy
    assert lies(loop, version, tmp_path) > 0.9


@pytest.mark.parametrize(
    ("defence", "dropped", "quarantined"),
    [
        ({"cap_per_user": 8}, {"over_user_cap": SPAM - 8}, {}),
        ({"burst_votes": 60, "burst_minutes": 10}, {}, {"burst": SPAM}),
    ],
    ids=["cap", "burst"],
)
def test_with_honest_users_each_defence_stops_the_spam(
    loop: Loop, tmp_path: Path, defence: dict[str, Any], dropped: dict[str, int], quarantined: dict[str, int]
) -> None:
    loop.teach(0)
    poison(loop, 0)
    version = loop.with_settings(feedback=UNDEFENDED | defence).learn(week(0))
    assert (version.dataset.dropped, version.dataset.quarantined) == (dropped, quarantined)
    assert version.accepted
    assert lies(loop, version, tmp_path) < 0.2


@pytest.mark.stack
def test_with_few_other_votes_the_users_rule_rejects_the_version(loop: Loop, tmp_path: Path) -> None:
    loop.teach(0, count=2)
    poison(loop, 0)
    asking = loop.with_settings(feedback=UNDEFENDED, gate={"min_users": 5})
    version = asking.learn(week(0))
    assert lies(loop, version, tmp_path) > 0.9
    assert [(rule.name, rule.figure) for rule in version.report.rules if not rule.passed] == [("users", 3.0)]
    assert not accepted_step.may_deploy(asking.resources, version, force=False).deploy
    assert extract_step.extract(asking.resources, week(1), widen=True).parent is None


def test_by_default_a_burst_is_kept_in_the_quarantine_file(loop: Loop, tmp_path: Path) -> None:
    loop.teach(0)
    clean = extracted(loop)
    assert clean.quarantine_uri is None
    poison(loop, 0)
    dataset, store = extracted(loop), loop.resources.store
    assert (dataset.read, dataset.rows, dataset.quarantined) == (40 + SPAM, 40, {"burst": SPAM})
    assert dataset.sha256 == clean.sha256
    assert store.key(str(dataset.quarantine_uri)).endswith(f"runs/{dataset.run_key}/quarantine.parquet")
    path = tmp_path / "quarantine.parquet"
    store.get_file(store.key(str(dataset.quarantine_uri)), path)
    table = pq.read_table(path)
    assert table.schema.equals(QUARANTINE)
    assert set(table["user"].to_pylist()) == {digest("mallory")}
    assert set(table["reason"].to_pylist()) == {"burst"}
    assert table.num_rows == SPAM
    after = datetime.now(UTC) + timedelta(days=loop.resources.settings.retention.runs_days + 1)
    retention.sweep(store, loop.resources.registry, loop.resources.ledger, loop.resources.settings.retention, now=after)
    assert not store.exists(store.key(str(dataset.quarantine_uri)))
