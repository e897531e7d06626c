"""The wait for earlier windows ends at its time-out, however often it polls."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from learning_engine.airflow import wait_for_earlier, windows
from learning_engine.records.contracts import Window

WEEK = Window(datetime(2026, 11, 9, 2, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC))
CONTEXT = {"params": {}, "dag_run": SimpleNamespace(dag_id="learning_engine_weekly")}


def deferred(monkeypatch: pytest.MonkeyPatch, earlier: list[str], act: Any) -> TaskDeferred:
    monkeypatch.setattr(windows, "of_run", lambda *_: windows.RunWindow(WEEK, explicit=False))
    monkeypatch.setattr(windows, "earlier_active_runs", lambda *_: earlier)
    with pytest.raises(TaskDeferred) as raised:
        act(wait_for_earlier.WaitForEarlierRuns(task_id="turn"))
    return raised.value


def test_the_time_out_covers_the_whole_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE__DAG__TURN_TIMEOUT_HOURS", "2")
    first = deferred(monkeypatch, ["one"], lambda task: task.execute(CONTEXT))
    assert (first.timeout, first.trigger.run_ids) == (timedelta(hours=2), ["one"])

    an_hour_left = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    again = deferred(monkeypatch, ["two"], lambda task: task.look_again(CONTEXT, None, an_hour_left))
    assert again.kwargs == {"until": an_hour_left}
    assert timedelta(minutes=59) < again.timeout <= timedelta(hours=1)

    over = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert deferred(monkeypatch, ["three"], lambda t: t.look_again(CONTEXT, None, over)).timeout == timedelta(0)


def test_a_run_does_not_wait_if_no_earlier_run_is_active(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(windows, "of_run", lambda *_: windows.RunWindow(WEEK, explicit=False))
    monkeypatch.setattr(windows, "earlier_active_runs", lambda *_: [])
    assert wait_for_earlier.WaitForEarlierRuns(task_id="turn").execute(CONTEXT) is None, (
        "it continues instead of being deferred"
    )
