"""What a person may decide about a weekly run, through the real scheduler: force it, publish only, say no.

Each window begins where that of the newest version ends, so that what is trained continues what is live.
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
class Ended:
    """A run that has succeeded, the window that it was given, and what was live before it."""

    run: str
    window: dict[str, str]
    before: Deployment | None


def taught(live: Live, name: str, *, count: int, lessons: int, **changes: Any) -> dict[str, str]:
    """`count` rows in a minute of their own, lessons that no other has; that minute as params."""
    start = max([week(4).end, *(version.window.end for version in live.resources.registry.versions())])
    live.add_feedback(
        [
            {
                **row,
                "created_at": (start + timedelta(seconds=index)).isoformat(),
                "conversation_id": f"{name}-{index}",
                **changes,
            }
            for index, row in enumerate(rows_of(lessons, count))
        ]
    )
    return {"window_start": start.isoformat(), "window_end": (start + timedelta(minutes=1)).isoformat()}


def started(live: Live, window: dict[str, str], **conf: Any) -> Ended:
    live.rest.unpause(DAG)
    before = live.resources.ledger.current()
    return Ended(live.trigger(conf={**window, **conf}), window, before)


def learned(live: Live, window: dict[str, str], **conf: Any) -> Ended:
    ended = started(live, window, **conf)
    assert live.ended(ended.run) == "success", live.explain(ended.run)
    return ended


def published(live: Live, ended: Ended) -> AdapterVersion:
    """The version that the run made, or found made, as the bucket has it."""
    return live.resources.registry.get(live.xcom(ended.run, "publish")["version"])


@pytest.fixture(scope="module")
def unasked(live: Live) -> Ended:
    """A good week with `deploy: never`."""
    return learned(live, taught(live, "unasked", count=40, lessons=11), deploy="never")


@pytest.fixture(scope="module")
def disliked(live: Live, unasked: Ended) -> Ended:
    """A week that is thin by its own measure, and without one answer that was liked: the gate cannot judge it."""
    window = taught(live, "disliked", count=24, lessons=12, feedback_type="thumbs_down")
    return learned(live, window, min_samples=50, force="count")


def test_deploy_never_publishes_only(live: Live, unasked: Ended):
    version = published(live, unasked)
    assert version.accepted
    assert version.run.run_id == unasked.run
    assert live.states(unasked.run).items() >= {"publish": "success", **NOT_DEPLOYED}.items()
    verdict = live.xcom(unasked.run, "accepted", "verdict")
    assert not verdict["deploy"]
    assert "deploy is set to never" in verdict["why"]
    assert live.resources.ledger.current() == unasked.before


def test_a_person_says_no_and_the_version_stays_published(live: Live, unasked: Ended):
    ended = started(live, unasked.window, deploy="approve")
    assert published(live, unasked).version in live.asked(ended.run)
    live.answer(ended.run, "Reject")
    assert live.ended(ended.run) == "success", live.explain(ended.run)
    assert live.states(ended.run).items() >= {**NOT_DEPLOYED, "approve": "success"}.items()
    answer = live.question(ended.run)
    assert (answer["chosen_options"], answer["responded_by_user"]["name"]) == (["Reject"], "admin")
    version = published(live, ended)
    assert version == published(live, unasked)
    assert live.resources.registry.revoked(version.version).by == "admin, by rejection"
    assert live.resources.ledger.current() == ended.before


def test_force_count_trains_however_few_rows_there_are(live: Live, disliked: Ended):
    verdict = live.xcom(disliked.run, "enough", "verdict")
    assert (verdict["samples"], verdict["needed"], verdict["passed"], verdict["forced"]) == (24, 50, True, True)
    version = published(live, disliked)
    assert (version.run.run_id, version.dataset.rows) == (disliked.run, 24)
    assert version.training.steps > 0


def test_force_count_makes_nothing_of_no_rows(live: Live):
    window = {"window_start": "2001-01-01T02:00:00Z", "window_end": "2001-01-08T02:00:00Z"}
    ended = learned(live, window, force="count")
    verdict = live.xcom(ended.run, "enough", "verdict")
    assert (verdict["samples"], verdict["passed"]) == (0, False)
    assert live.states(ended.run).items() >= {"train": "skipped", "publish": "skipped", **NOT_DEPLOYED}.items()
    assert live.resources.ledger.current() == ended.before


def test_what_the_gate_rejects_is_published_and_not_deployed(live: Live, disliked: Ended):
    version = published(live, disliked)
    assert not version.accepted
    assert live.states(disliked.run).items() >= {"publish": "success", **NOT_DEPLOYED}.items()
    verdict = live.xcom(disliked.run, "accepted", "verdict")
    assert not verdict["deploy"]
    assert verdict["why"].startswith("the gate rejected it: heldout")
    assert live.resources.ledger.current() == disliked.before


def test_force_quality_deploys_it_and_the_ledger_says_who(live: Live, disliked: Ended):
    proven = published(live, disliked).report.probes is not None
    forced = started(live, disliked.window, force="quality")
    if not proven:
        live.asked(forced.run)
        live.answer(forced.run, "Approve")
    assert live.ended(forced.run) == "success", live.explain(forced.run)
    version, now = published(live, forced), live.resources.ledger.current()
    assert version == published(live, disliked)
    assert (now.version, now.run.run_id) == (version.version, forced.run)
    assert now.decided_by == ("admin, by hand, against the gate" if proven else "admin, by approval")
    assert now.previous == (forced.before.version if forced.before else None)
    assert now.proven == proven
    next_week = Window(version.window.end, version.window.end + timedelta(weeks=1))
    parent = live.resources.registry.parent_for(
        next_week, base_model=version.base_model, base_revision=None, lora=version.lora
    )
    assert parent == version, "the next weeks continue what is live"
