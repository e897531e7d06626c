"""A client of Airflow's REST API, logged in as the admin: runs, their tasks and logs, and waiting for runs."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests

from demo.airflow import USER, Airflow
from demo.processes import StackError

# On a busy machine the first answers take half a minute.
SECONDS = 120


@dataclass(frozen=True)
class TaskState:
    """One task of one run, as the REST API reports it. `seconds` is None until it has ended."""

    task: str
    state: str | None
    seconds: float | None
    tries: int


@dataclass(frozen=True)
class RunState:
    """One run with its tasks in the order of their start; tasks that have not started come last."""

    run_id: str
    state: str
    start: datetime
    end: datetime
    tasks: tuple[TaskState, ...]


class Rest:
    """A client of Airflow's REST API, logged in as the admin. Threads may share it."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self._token: str | None = None
        self._lock = threading.Lock()

    def token(self) -> str:
        with self._lock:
            if self._token is None:
                login = {"username": USER, "password": self.airflow.password}
                answer = requests.post(f"{self.airflow.url}/auth/token", json=login, timeout=SECONDS)
                answer.raise_for_status()
                self._token = str(answer.json()["access_token"])
            return self._token

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call `/api/v2/…` and return its JSON. Raises requests.HTTPError on 4xx and 5xx."""
        headers = {"Authorization": f"Bearer {self.token()}", "Accept": "application/json"}
        url = f"{self.airflow.url}/api/v2/{path}"
        answer = requests.request(method, url, headers=headers, timeout=SECONDS, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str, *, seconds: float = 60) -> None:
        """Wait until the DAG has been parsed. Raises StackError with the import errors if it is not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.call("GET", f"dags/{dag_id}")
                return
            except requests.RequestException:
                time.sleep(0.5)
        errors = self.call("GET", "importErrors")["import_errors"]
        reasons = "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in errors)
        raise StackError(f"Expected the DAG {dag_id} within {seconds:g} s, found none. {reasons}")

    def unpause(self, dag_id: str) -> None:
        self.call("PATCH", f"dags/{dag_id}", json={"is_paused": False})

    def runs(self, dag_id: str, run_type: str = "backfill") -> list[RunState]:
        """All runs of a type with their tasks, oldest window first."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns", params={"run_type": run_type, "limit": 100})["dag_runs"]
        runs = [self._run(dag_id, run) for run in found]
        return sorted(runs, key=lambda run: run.start)

    def _run(self, dag_id: str, run: Mapping[str, Any]) -> RunState:
        path = f"dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances"
        tasks = self.call("GET", path, params={"limit": 100})["task_instances"]
        tasks.sort(key=lambda task: (task["start_date"] or "9", task["task_id"]))
        states = tuple(
            TaskState(task["task_id"], task["state"], task["duration"], max(task["try_number"], 1)) for task in tasks
        )
        start, end = (datetime.fromisoformat(run[key]) for key in ("data_interval_start", "data_interval_end"))
        return RunState(run["dag_run_id"], run["state"], start, end, states)

    def log(self, dag_id: str, run_id: str, task: TaskState) -> str:
        """The log of the last attempt as plain lines."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task}/logs/{task.tries}"
        entries = self.call("GET", path, params={"full_content": True})["content"]
        return "\n".join(entry if isinstance(entry, str) else _line(entry) for entry in entries)


def wait_for_runs(
    rest: Rest,
    dag_id: str,
    *,
    expected: int,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    show: Callable[[list[RunState]], None] = lambda _: None,
) -> list[RunState]:
    """Wait until `expected` backfill runs have succeeded; calls `check`, which may raise, and `show` in each round.

    Raises StackError with the logs of the failed tasks as soon as a run has failed, if one asks a person to approve a
    version that nothing proves, or if it takes too long.
    """
    deadline = time.monotonic() + seconds
    while True:
        check()
        runs = rest.runs(dag_id)
        show(runs)
        if failed := [run for run in runs if run.state == "failed"]:
            raise StackError("\n".join(explain(rest, dag_id, run) for run in failed))
        if asking := [run for run in runs if any(task.state == "awaiting_input" for task in run.tasks)]:
            raise StackError(
                f"Expected every version to have a probe, found none for {asking[0].run_id}, which asks a person to "
                "approve it: no prompt distinguishes the version from its parent and base. Did it learn too little?"
            )
        if len(runs) >= expected and all(run.state == "success" for run in runs):
            return runs
        if time.monotonic() > deadline:
            states = ", ".join(f"{run.run_id}: {run.state}" for run in runs) or "no run"
            raise StackError(f"Expected {expected} runs to succeed within {seconds:g} s, found {states}")
        time.sleep(1)


def explain(rest: Rest, dag_id: str, run: RunState, lines: int = 40) -> str:
    """The failed tasks of a failed run, with the end of their logs."""
    parts = [f"The run {run.run_id} of {dag_id} failed."]
    for task in run.tasks:
        if task.state == "failed":
            log = "\n".join(f"  {line}" for line in rest.log(dag_id, run.run_id, task).splitlines()[-lines:])
            parts.append(f"The end of the log of task {task.task} (attempt {task.tries}):\n{log}")
    return "\n".join(parts)


def _line(entry: Mapping[str, Any]) -> str:
    """One structured log entry, with its stack trace if it has one."""
    text = f"{entry.get('timestamp') or ''} {entry.get('level') or ''} {entry.get('event') or ''}".strip()
    for error in entry.get("error_detail") or []:
        frames = [f"    {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error.get("frames", [])]
        text = "\n".join([text, *frames, f"    {error.get('exc_type')}: {error.get('exc_value')}"])
    return text
