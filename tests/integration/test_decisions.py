"""Decisions of a person on a weekly run, through the real scheduler: force it, only publish, reject.

Each window begins where that of the newest version ends, so that each trained version continues the live one.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from learning_engine.records.contracts import AdapterVersion, Deployment, Window
from tests.integration.conftest import Live, rows_of, week

DAG = "learning_engine_weekly"
NOT_DEPLOYED = {"approve": "skipped", "deploy": "skipped", "verify": "skipped"}


@dataclass(frozen=True)
class WeeklyRun:
    """A weekly run, its window, and the deployment that was live before it."""

    run: str
    window: dict[str, str]
    before: Deployment | None


def add_feedback_window(live: Live, name: str, *, count: int, subject: int, **changes: Any) -> dict[str, str]:
    """Add `count` rows on `subject`, which no other window uses, within one new minute; return it as a run's params."""
    start = max([week(4).end, *(version.window.end for version in live.resources.registry.versions())])
    live.add_feedback(
        [
            {
                **row,
                "created_at": (start + timedelta(seconds=index)).isoformat(),
                "conversation_id": f"{name}-{index}",
                **changes,
            }
            for index, row in enumerate(rows_of(subject, count))
        ]
    )
    return {"window_start": start.isoformat(), "window_end": (start + timedelta(minutes=1)).isoformat()}


def start_run(live: Live, window: dict[str, str], **conf: Any) -> WeeklyRun:
    live.rest.unpause(DAG)
    before = live.resources.ledger.current()
    return WeeklyRun(live.trigger(conf={**window, **conf}), window, before)


def run_to_success(live: Live, window: dict[str, str], **conf: Any) -> WeeklyRun:
    weekly = start_run(live, window, **conf)
    assert live.wait_for_end(weekly.run) == "success", live.explain(weekly.run)
    return weekly


def published_version(live: Live, weekly: WeeklyRun) -> AdapterVersion:
    """The version that the run published, or found published, as read from the bucket."""
    return live.resources.registry.get(live.xcom(weekly.run, "publish")["version"])


@pytest.fixture(scope="module")
def never_deployed(live: Live) -> WeeklyRun:
    """A run over a good week with `deploy: never`."""
    return run_to_success(live, add_feedback_window(live, "unasked", count=40, subject=11), deploy="never")


@pytest.fixture(scope="module")
def disliked(live: Live, never_deployed: WeeklyRun) -> WeeklyRun:
    """A run with fewer rows than its minimum and without any liked answer, so that the gate rejects it."""
    window = add_feedback_window(live, "disliked", count=24, subject=12, feedback_type="thumbs_down")
    return run_to_success(live, window, min_samples=50, force="count")


def test_deploy_never_only_publishes(live: Live, never_deployed: WeeklyRun):
    version = published_version(live, never_deployed)
    assert version.accepted
    assert version.run.run_id == never_deployed.run
    assert live.states(never_deployed.run).items() >= {"publish": "success", **NOT_DEPLOYED}.items()
    verdict = live.xcom(never_deployed.run, "accepted", "verdict")
    assert not verdict["deploy"]
    assert "deploy is set to never" in verdict["why"]
    assert live.resources.ledger.current() == never_deployed.before


def test_a_rejected_version_stays_published_and_is_revoked(live: Live, never_deployed: WeeklyRun):
    weekly = start_run(live, never_deployed.window, deploy="approve")
    assert published_version(live, never_deployed).version in live.wait_for_question(weekly.run)
    live.answer(weekly.run, "Reject")
    assert live.wait_for_end(weekly.run) == "success", live.explain(weekly.run)
    assert live.states(weekly.run).items() >= {**NOT_DEPLOYED, "approve": "success"}.items()
    answer = live.question(weekly.run)
    assert (answer["chosen_options"], answer["responded_by_user"]["name"]) == (["Reject"], "admin")
    version = published_version(live, weekly)
    assert version == published_version(live, never_deployed)
    assert live.resources.registry.revoked(version.version).by == "admin, by rejection"
    assert live.resources.ledger.current() == weekly.before


def test_force_count_trains_on_too_few_rows(live: Live, disliked: WeeklyRun):
    verdict = live.xcom(disliked.run, "enough", "verdict")
    assert (verdict["samples"], verdict["needed"], verdict["passed"], verdict["forced"]) == (24, 50, True, True)
    version = published_version(live, disliked)
    assert (version.run.run_id, version.dataset.rows) == (disliked.run, 24)
    assert version.training.steps > 0


def test_force_count_does_not_train_without_rows(live: Live):
    window = {"window_start": "2001-01-01T02:00:00Z", "window_end": "2001-01-08T02:00:00Z"}
    weekly = run_to_success(live, window, force="count")
    verdict = live.xcom(weekly.run, "enough", "verdict")
    assert (verdict["samples"], verdict["passed"]) == (0, False)
    assert live.states(weekly.run).items() >= {"train": "skipped", "publish": "skipped", **NOT_DEPLOYED}.items()
    assert live.resources.ledger.current() == weekly.before


def test_a_version_rejected_by_the_gate_is_published_and_not_deployed(live: Live, disliked: WeeklyRun):
    version = published_version(live, disliked)
    assert not version.accepted
    assert live.states(disliked.run).items() >= {"publish": "success", **NOT_DEPLOYED}.items()
    verdict = live.xcom(disliked.run, "accepted", "verdict")
    assert not verdict["deploy"]
    assert verdict["why"].startswith("the gate rejected it: heldout")
    assert live.resources.ledger.current() == disliked.before


def test_force_quality_deploys_it_and_the_ledger_records_who(live: Live, disliked: WeeklyRun):
    proven = published_version(live, disliked).report.probes is not None
    forced = start_run(live, disliked.window, force="quality")
    if not proven:
        live.wait_for_question(forced.run)
        live.answer(forced.run, "Approve")
    assert live.wait_for_end(forced.run) == "success", live.explain(forced.run)
    version, now = published_version(live, forced), live.resources.ledger.current()
    assert version == published_version(live, disliked)
    assert (now.version, now.run.run_id) == (version.version, forced.run)
    assert now.decided_by == ("admin, by hand, against the gate" if proven else "admin, by approval")
    assert now.previous == (forced.before.version if forced.before else None)
    assert now.proven == proven
    next_week = Window(version.window.end, version.window.end + timedelta(weeks=1))
    parent = live.resources.registry.parent_for(
        next_week, base_model=version.base_model, base_revision=None, lora=version.lora
    )
    assert parent == version, "the next week continues the live version"
