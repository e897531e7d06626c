"""One complete stack for all tests of this folder: PostgreSQL, an S3 store, the model server, Airflow's services."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo import postgres
from demo.airflow import Airflow
from demo.processes import Program, Stack
from demo.rest import Rest, TaskState
from learning_engine.records.contracts import Window
from learning_engine.serving.client import Replica
from learning_engine.steps.resources import Resources
from tests.integration import assembly
from tests.steps.conftest import SMALL, feedback_rows

WEEKS = 5
# The end of the last complete week: days before now, so that no week ends during a test, and no window in the future.
LAST_END = (datetime.now(UTC) - timedelta(days=3)).replace(hour=2, minute=0, second=0, microsecond=0)
SETTINGS = {
    **SMALL,
    "FEEDBACK__SOURCE": "postgres",
    "DAG__SCHEDULE": f"0 2 * * {LAST_END.isoweekday() % 7}",
    "DAG__TURN_POLL_SECONDS": "1",
    "DAG__RETRIES": "1",
    "DAG__RETRY_DELAY_SECONDS": "1",
    "DAG__RECONCILE_MINUTES": "0.1",
    "WATCH__MAX_RISE": "0.2",
    "WATCH__MIN_VOTES": "20",
    "STORE__PREFIX": "stack",
}
ENDED = {"success", "failed"}


def week(number: int) -> Window:
    """The window of a week; week 0 is the oldest of the last `WEEKS` complete weeks."""
    start = LAST_END - timedelta(weeks=WEEKS - number)
    return Window(start, start + timedelta(weeks=1))


def until(what: str, condition: Callable[[], Any], seconds: float = 300, pause: float = 0.5) -> Any:
    """Call `condition` every `pause` seconds until its result is true; return the result."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(pause)
    return result


@dataclass(frozen=True)
class Live:
    """The running stack, with helpers to start runs, add feedback and read results."""

    stack: Stack
    airflow: Airflow
    rest: Rest
    database: postgres.Postgres
    resources: Resources
    model_server: Program

    @property
    def replica(self) -> Replica:
        return Replica(self.resources.serving.replicas[0], self.resources.settings.serving)

    def trigger(self, dag_id: str = "learning_engine_weekly", **body: Any) -> str:
        """Start a run by REST, as the UI's form and scripts do; returns its id."""
        body.setdefault("logical_date", None)
        return str(self.rest.call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def state(self, run: str, dag_id: str = "learning_engine_weekly") -> str:
        return str(self.rest.call("GET", f"dags/{dag_id}/dagRuns/{run}")["state"])

    def wait_for_end(self, run: str, dag_id: str = "learning_engine_weekly", seconds: float = 300) -> str:
        until(f"{run} of {dag_id}", lambda: self.state(run, dag_id) in ENDED, seconds)
        return self.state(run, dag_id)

    def tasks(self, run: str, dag_id: str = "learning_engine_weekly") -> dict[str, Any]:
        found = self.rest.call("GET", f"dags/{dag_id}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return {task["task_id"]: task for task in found["task_instances"]}

    def states(self, run: str, dag_id: str = "learning_engine_weekly") -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks(run, dag_id).items()}

    def xcom(self, run: str, task: str, key: str = "return_value", dag_id: str = "learning_engine_weekly") -> Any:
        path = f"dags/{dag_id}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"
        return self.rest.call("GET", path)["value"]

    def log(self, run: str, task: str, dag_id: str = "learning_engine_weekly") -> str:
        tries = max(self.tasks(run, dag_id)[task]["try_number"], 1)
        return self.rest.log(dag_id, run, TaskState(task, None, None, tries))

    def explain(self, run: str, dag_id: str = "learning_engine_weekly") -> str:
        """The logs of the failed tasks, for the message of an assertion."""
        states = self.states(run, dag_id)
        return "\n".join(
            f"{name}:\n{self.log(run, name, dag_id)}" for name, state in states.items() if state == "failed"
        )

    def question(self, run: str) -> dict[str, Any]:
        """The approval question of a weekly run, with its answer if there is one."""
        return dict(self.rest.call("GET", _question(run)))

    def wait_for_question(self, run: str) -> str:
        """Wait until a weekly run asks a person whether to deploy; return the subject of the question."""
        until("the question", lambda: self.states(run)["approve"] == "awaiting_input" or self.state(run) in ENDED)
        assert self.state(run) not in ENDED, self.explain(run)
        # Airflow 3.3 loses an answer that comes before its scheduler has seen that the asking process ended.
        scheduler = self.stack.logs / "scheduler.log"
        seen = re.compile(rf"Received executor event.*task_id='approve', run_id='{re.escape(run)}'")
        until("the scheduler to see the question", lambda: seen.search(scheduler.read_text()), 60)
        return str(self.question(run)["subject"])

    def answer(self, run: str, option: str) -> None:
        self.rest.call("PATCH", _question(run), json={"chosen_options": [option], "params_input": {}})

    def end_model_server(self) -> None:
        for running in self.stack.running():
            if running.name == self.model_server.name and (leader := running.leader()):
                leader.kill()
                until("the model server to end", lambda running=running: running.leader() is None, 30)

    def restart_model_server(self, *arguments: str) -> None:
        """Start a new model server on the same port, without adapters; `arguments` are added to its command."""
        self.end_model_server()
        self.stack.up(replace(self.model_server, command=(*self.model_server.command, *arguments)))

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=dict(self.airflow.env),
            cwd=self.airflow.home,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_feedback(self, rows: list[dict[str, Any]]) -> None:
        with psycopg.connect(self.database.uri("feedback")) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO feedback (request_data, response_data, feedback_type, created_at, user_id,"
                " conversation_id) VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (
                        json.dumps(row["request_data"]),
                        json.dumps(row["response_data"]),
                        row["feedback_type"],
                        datetime.fromisoformat(row["created_at"]).replace(tzinfo=None),
                        row["user_id"],
                        row["conversation_id"],
                    )
                    for row in rows
                ],
            )


def _question(run: str) -> str:
    return f"dags/learning_engine_weekly/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"


def rows_of(number: int, count: int = 40) -> list[dict[str, Any]]:
    """Feedback rows of week `number`, with times in this stack's week of that number."""
    start = week(number).start
    return [
        {**row, "created_at": (start + timedelta(minutes=index)).isoformat()}
        for index, row in enumerate(feedback_rows(number, count))
    ]


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory = tmp_path_factory.mktemp("stack")
    stack = Stack(directory)
    try:
        yield Live(stack, *assembly.start(stack, directory, settings=SETTINGS))
    finally:
        stack.stop()
        postgres.remove(directory / "postgres")
