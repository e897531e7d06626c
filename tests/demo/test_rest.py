"""Waiting for the demo's runs ends with an error where a person would have to act."""

from datetime import UTC, datetime

import pytest

from demo.processes import StackError
from demo.rest import Rest, RunState, TaskState, wait_for_runs

FIRST = datetime(2026, 10, 19, 2, tzinfo=UTC)


class Scripted(Rest):
    """Returns one run, whose task `approve` is in the given state."""

    def __init__(self, run: str, approve: str) -> None:
        self.run = RunState("backfill__1", run, FIRST, FIRST, (TaskState("approve", approve, None, 1),))

    def runs(self, dag_id: str) -> list[RunState]:
        return [self.run]


def test_the_demo_waits_for_runs_but_not_for_a_person():
    assert wait_for_runs(Scripted("success", "success"), "weekly", expected=1, seconds=0)[0].state == "success"
    with pytest.raises(StackError, match="asks a person to approve"):
        wait_for_runs(Scripted("running", "awaiting_input"), "weekly", expected=1, seconds=0)
    with pytest.raises(StackError, match="to succeed within 0 s"):
        wait_for_runs(Scripted("running", "running"), "weekly", expected=1, seconds=0)
