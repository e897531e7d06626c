"""The task `turn`, first in the weekly DAG: wait until no run with an earlier window is active.

It waits in the triggerer, not on a worker, so ten waiting runs of a backfill cost one request each per poll. A sensor
in reschedule mode would start a worker for every poll, and under load Airflow can fail it: the end of one poll may
arrive after the next one was queued under the same try number.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from learning_engine.airflow import windows
from learning_engine.airflow.context import permanent_errors_fail, settings_of
from learning_engine.telemetry import event

ACTIVE = ["queued", "running"]


class WaitForEarlierRuns(BaseOperator):  # type: ignore[misc]
    """Succeeds once no active run of this DAG has an earlier window. Fails on invalid params before any work."""

    @permanent_errors_fail
    def execute(self, context: Any, until: str | None = None) -> None:
        dag, run = settings_of(context).dag, context["dag_run"]
        now, hours = datetime.now(UTC), timedelta(hours=dag.turn_timeout_hours)
        deadline = datetime.fromisoformat(until) if until else now + hours
        mine = windows.of_run(run, context["params"], dag)
        earlier = windows.earlier_active_runs(run, mine.window, run.dag_id, dag)
        event("turn", window=str(mine.window), waiting_for=earlier)
        if earlier:
            self.defer(
                trigger=RunsEnded(run.dag_id, earlier, dag.turn_poll_seconds),
                method_name="look_again",
                kwargs={"until": deadline.isoformat()},
                timeout=max(deadline - now, timedelta(0)),
            )

    def look_again(self, context: Any, event: Any, until: str) -> None:  # noqa: ARG002
        """Check again after those runs have ended, because others may have started. `until` bounds the whole wait."""
        self.execute(context, until)


class RunsEnded(BaseTrigger):  # type: ignore[misc]
    """Fires when none of `run_ids` is queued or running; a deleted run counts as ended."""

    def __init__(self, dag_id: str, run_ids: list[str], poll_seconds: float) -> None:
        super().__init__()
        self.dag_id, self.run_ids, self.poll_seconds = dag_id, run_ids, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"dag_id": self.dag_id, "run_ids": self.run_ids, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        count = sync_to_async(RuntimeTaskInstance.get_dr_count)
        while await count(dag_id=self.dag_id, run_ids=self.run_ids, states=ACTIVE):
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"ended": self.run_ids})
