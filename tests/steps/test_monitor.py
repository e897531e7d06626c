"""Votes on the live version, and when they cause a rollback."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from learning_engine.records.contracts import Deployment
from learning_engine.steps import monitor as monitor_step
from learning_engine.steps.monitor import Verdict, Votes
from tests.steps.conftest import RUN, Loop

NOW = datetime.now(UTC)
DEPLOYED, BEFORE = NOW - timedelta(hours=10), NOW - timedelta(hours=30)
OLD, NEW = "v1.0-aaaaaaaa", "v1.1-bbbbbbbb"


def entry(version: str, name: str, at: datetime, **changes: Any) -> Deployment:
    plain: dict[str, Any] = {"previous": None, "previous_adapter_name": None, "action": "deploy"}
    return Deployment(
        version=version,
        adapter_name=name,
        replicas=[],
        proven=True,
        decided_by="the gate",
        run=replace(RUN, run_id=f"{version}-{at.isoformat()}"),
        at=at,
        **{**plain, **changes},
    )


@pytest.fixture
def watched(loop: Loop) -> Loop:
    """v1.1 has been live for ten hours, after twenty hours of v1.0; ten points more thumbs down cause a rollback."""
    loop.resources.ledger.record(entry("v1.0", OLD, BEFORE))
    loop.resources.ledger.record(entry("v1.1", NEW, DEPLOYED, previous="v1.0", previous_adapter_name=OLD))
    return loop.with_settings(watch={"max_rise": 0.1, "min_votes": 100})


def vote(loop: Loop, since: datetime, up: int, down: int, *, model: str | None = None, user: str | None = None) -> None:
    """Add votes on different answers, one per second from `since`, each by a different user or all by `user`."""
    with loop.feedback.open("a", encoding="utf-8") as file:
        for number in range(up + down):
            row = {
                "request_data": {"messages": [{"role": "user", "content": f"{since} {model} {user} {number}"}]},
                "response_data": {"model": model, "choices": [{"message": {"content": f"answer {number}"}}]},
                "feedback_type": "thumbs_up" if number < up else "thumbs_down",
                "created_at": (since + timedelta(seconds=number)).isoformat(),
                "user_id": user or f"{since} {model} {number}",
                "conversation_id": f"{since} {model} {user} {number}",
            }
            file.write(json.dumps(row) + "\n")


def look(loop: Loop) -> Verdict:
    return monitor_step.judge(loop.resources, now=NOW)


def test_monitoring_is_off_by_default(watched: Loop) -> None:
    vote(watched, BEFORE, 200, 0)
    vote(watched, DEPLOYED, 0, 200)
    verdict = look(watched.with_settings(watch={"max_rise": None}))
    assert verdict == Verdict(False, "watch.max_rise is not set")


def test_a_version_that_users_like_much_less_is_rolled_back(watched: Loop) -> None:
    vote(watched, BEFORE, 180, 20)
    vote(watched, DEPLOYED, 120, 80)
    verdict = look(watched)
    assert (verdict.roll_back, verdict.version) == (True, "v1.1")
    assert verdict.why == (
        "thumbs down rose from 10.0% of 200 votes on v1.0 to 40.0% of 200 on v1.1, by at least +23.2% (95 %); "
        "watch.max_rise is 10.0%"
    )


def test_a_rise_that_may_be_chance_is_not_enough(watched: Loop) -> None:
    vote(watched, BEFORE, 180, 20)
    vote(watched, DEPLOYED, 166, 34)
    verdict = look(watched.with_settings(watch={"max_rise": 0.05}))
    assert not verdict.roll_back
    assert "to 17.0% of 200 on v1.1, by at least +1.4%" in verdict.why


def test_too_few_votes_decide_nothing(watched: Loop) -> None:
    vote(watched, BEFORE, 200, 0)
    vote(watched, DEPLOYED, 0, 99)
    assert look(watched) == Verdict(False, "fewer than 100 votes each: 200 on v1.0 and 99 on v1.1", "v1.1")


def test_rows_that_name_their_version_count_for_it_at_any_time(watched: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes from clients that still use the old version after the swap do not count for the new one."""
    monkeypatch.setattr(monitor_step.placement, "server_name", lambda _, name: name)
    monkeypatch.setattr(type(watched.resources.registry), "versions", lambda _: [OLD, NEW])
    vote(watched, BEFORE, 180, 20, model=OLD)
    vote(watched, DEPLOYED, 20, 180, model=OLD)
    vote(watched, DEPLOYED + timedelta(hours=1), 120, 0, model=NEW)
    vote(watched, DEPLOYED + timedelta(hours=2), 60, 0, model="the application's own name")
    verdict = look(watched)
    assert not verdict.roll_back
    assert "to 0.0% of 180 on v1.1" in verdict.why


def test_one_user_cannot_cause_a_rollback(watched: Loop) -> None:
    vote(watched, BEFORE, 200, 0)
    vote(watched, DEPLOYED, 150, 0)
    vote(watched, DEPLOYED + timedelta(hours=1), 0, 400, user="the same")
    verdict = look(watched)
    assert not verdict.roll_back
    assert "to 0.0% of 150 on v1.1" in verdict.why


def test_a_version_is_monitored_only_for_watch_hours(watched: Loop) -> None:
    verdict = look(watched.with_settings(watch={"hours": 9}))
    assert verdict == Verdict(False, "v1.1 has been live for longer than watch.hours")


def test_a_rollback_is_not_monitored(watched: Loop) -> None:
    back = entry("v1.0", OLD, NOW - timedelta(hours=1), previous="v1.1", previous_adapter_name=NEW, action="rollback")
    watched.resources.ledger.record(back)
    assert look(watched) == Verdict(False, "the live version did not replace another one")


def test_the_first_version_has_nothing_to_compare_with(loop: Loop) -> None:
    loop.resources.ledger.record(entry("v1.0", OLD, BEFORE))
    vote(loop, BEFORE, 0, 150)
    verdict = look(loop.with_settings(watch={"max_rise": 0.1}))
    assert verdict == Verdict(False, "the live version did not replace another one")


def test_the_comparison_goes_back_watch_hours_at_most(watched: Loop) -> None:
    """An outage of last month does not count."""
    vote(watched, BEFORE, 0, 150)
    vote(watched, DEPLOYED - timedelta(hours=8), 150, 0)
    vote(watched, DEPLOYED, 100, 50)
    verdict = look(watched.with_settings(watch={"hours": 11}))
    assert verdict.roll_back
    assert "from 0.0% of 150 votes on v1.0" in verdict.why


def test_the_bound_is_newcombes_method_10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newcombe's example (a), 56 of 70 against 48 of 80: the two-sided 95 % interval of method 10 starts at 0.0524."""
    monkeypatch.setattr(monitor_step, "Z", 1.959964)
    assert monitor_step.rise_lower_bound(Votes(up=32, down=48), Votes(up=14, down=56)) == pytest.approx(
        0.0524, abs=5e-5
    )
