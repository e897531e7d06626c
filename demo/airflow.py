"""Airflow on one machine: api-server, scheduler, dag-processor and triggerer, each a supervised process.

LocalExecutor on PostgreSQL, everything on loopback, few workers. Nothing here imports Airflow: its own programs are
run, and its REST interface is asked.
"""

import json
import os
import secrets
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from demo.ports import LOOPBACK, free_port
from demo.processes import Program, Stack, StackError

USER = "admin"
# Imported once, by the process that all task processes are forked from: four runs of three heavy tasks import torch
# and its company twelve times otherwise, some five seconds each. A worker with a GPU should not do so.
PRELOADED = ("airflow.executors.local_executor", "torch", "transformers", "peft", "datasets", "boto3")
# Of the user's environment only these reach Airflow; an AIRFLOW__… of the shell would change the demo.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "http_proxy", "https_proxy")
FINISHED = ("success", "failed")


@dataclass(frozen=True)
class Airflow:
    """An Airflow that can be started: its environment, and where its REST interface and its page are."""

    home: Path
    port: int
    password: str = field(repr=False)
    env: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def program(self, name: str, *arguments: str, **options: Any) -> Program:
        command = (sys.executable, "-m", "airflow", *arguments)
        return Program(name, command, env=self.env, cwd=self.home, **options)


@dataclass(frozen=True)
class TaskState:
    """One task of one run, as the REST interface tells it. `seconds` is None before it has ended."""

    task: str
    state: str | None
    seconds: float | None
    tries: int


@dataclass(frozen=True)
class RunState:
    """One run with its tasks in the order in which they started; those that have not come last."""

    run_id: str
    state: str
    start: datetime
    end: datetime
    tasks: tuple[TaskState, ...]


def configure(
    home: Path, *, dags: Path, plugins: Path, database: str, port: int, env: Mapping[str, str], ports: set[int]
) -> Airflow:
    """Write the login and compose the environment; `env` (connections, configuration) is laid over it.

    `database` is a URI of the form `postgresql+psycopg2://…`.
    """
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://{LOOPBACK}:{port}"
    passwords = home / "passwords.json"
    passwords.touch(mode=0o600)
    password = secrets.token_urlsafe(9)
    passwords.write_text(json.dumps({USER: password}))
    options = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__MP_START_METHOD": "forkserver",
        "CORE__MP_FORKSERVER_PRELOAD": ",".join(PRELOADED),
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__PLUGINS_FOLDER": str(plugins),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "API__HOST": LOOPBACK,
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port(8793, taken=ports)),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port(8794, taken=ports)),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # Tasks beside each other share two cores; one thread each is faster than two that fight.
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    settings = {f"AIRFLOW__{key}": value for key, value in options.items()}
    path = {"AIRFLOW_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}"}
    return Airflow(home, port, password, {**inherited, **quiet, **settings, **path, **env})


def migrate(airflow: Airflow) -> Program:
    return airflow.program("airflow-migrate", "db", "migrate", patience=120)


def services(airflow: Airflow) -> list[Program]:
    """The four processes. The scheduler, dag-processor and triggerer are healthy when their heartbeat is."""

    def beats(component: str) -> Callable[[], bool]:
        def healthy() -> bool:
            report: dict[str, Any] = requests.get(f"{airflow.url}/api/v2/monitor/health", timeout=5).json()
            return (report.get(component) or {}).get("status") == "healthy"

        return healthy

    # LocalExecutor's logs lie on the same disk as the api-server: the log servers are not needed. Once the api-server
    # has shut down, it spends half a minute on tidying its memory up; that is not waited for.
    return [
        airflow.program(
            "api-server", "api-server", healthy=beats("metadatabase"), port=airflow.port, patience=120, grace=2
        ),
        airflow.program("scheduler", "scheduler", "--skip-serve-logs", healthy=beats("scheduler"), patience=120),
        airflow.program("dag-processor", "dag-processor", healthy=beats("dag_processor"), patience=120),
        airflow.program("triggerer", "triggerer", "--skip-serve-logs", healthy=beats("triggerer"), patience=120),
    ]


class Rest:
    """Airflow's REST interface, logged in as the admin. Threads may share it."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self._token: str | None = None
        self._lock = threading.Lock()

    def token(self) -> str:
        with self._lock:
            if self._token is None:
                login = {"username": USER, "password": self.airflow.password}
                answer = requests.post(f"{self.airflow.url}/auth/token", json=login, timeout=30)
                answer.raise_for_status()
                self._token = str(answer.json()["access_token"])
            return self._token

    def call(self, method: str, path: str, **options: Any) -> Any:
        """JSON of `/api/v2/…`. Raises requests.HTTPError on 4xx and 5xx."""
        headers = {"Authorization": f"Bearer {self.token()}", "Accept": "application/json"}
        url = f"{self.airflow.url}/api/v2/{path}"
        answer = requests.request(method, url, headers=headers, timeout=30, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str, *, seconds: float = 60) -> None:
        """Until the DAG has been parsed. Raises StackError with the import errors where it is not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.call("GET", f"dags/{dag_id}")
                return
            except requests.RequestException:
                time.sleep(0.5)
        errors = self.call("GET", "importErrors")["import_errors"]
        reasons = "\n".join(f"{error['filename']}: {error['stack_trace']}" for error in errors)
        raise StackError(f"Expected the DAG {dag_id} after {seconds:g} s, found none. {reasons}")

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
        """The last try's log as plain lines."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task}/logs/{task.tries}"
        entries = self.call("GET", path, params={"full_content": True})["content"]
        return "\n".join(entry if isinstance(entry, str) else _line(entry) for entry in entries)


def backfill(
    airflow: Airflow, stack: Stack, dag_id: str, *, first: datetime, last: datetime, max_active_runs: int
) -> str:
    """`airflow backfill create` over the intervals that start from `first` to `last`, inclusive; its output."""
    dates = ("--from-date", first.isoformat(), "--to-date", last.isoformat())
    arguments = ("backfill", "create", "--dag-id", dag_id, *dates, "--max-active-runs", str(max_active_runs))
    return stack.run(airflow.program("airflow-backfill", *arguments, patience=120))


def wait_for_runs(
    rest: Rest,
    dag_id: str,
    *,
    expected: int,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    show: Callable[[list[RunState]], None] = lambda _: None,
) -> list[RunState]:
    """Until `expected` backfill runs have succeeded; `show` sees every state on the way, `check` may raise.

    Raises StackError with the logs of the failed tasks as soon as a run has failed, or when it takes too long.
    """
    deadline = time.monotonic() + seconds
    while True:
        check()
        runs = rest.runs(dag_id)
        show(runs)
        if failed := [run for run in runs if run.state == "failed"]:
            raise StackError("\n".join(explain(rest, dag_id, run) for run in failed))
        if len(runs) >= expected and all(run.state == "success" for run in runs):
            return runs
        if time.monotonic() > deadline:
            states = ", ".join(f"{run.run_id}: {run.state}" for run in runs) or "no run"
            raise StackError(f"Expected {expected} runs to succeed within {seconds:g} s, found {states}")
        time.sleep(1)


def explain(rest: Rest, dag_id: str, run: RunState, lines: int = 40) -> str:
    """Which tasks of a failed run failed, with the end of their logs."""
    parts = [f"The run {run.run_id} of {dag_id} failed."]
    for task in run.tasks:
        if task.state == "failed":
            log = "\n".join(f"  {line}" for line in rest.log(dag_id, run.run_id, task).splitlines()[-lines:])
            parts.append(f"The end of the log of task {task.task} (try {task.tries}):\n{log}")
    return "\n".join(parts)


def _line(entry: Mapping[str, Any]) -> str:
    """One structured log entry, with its stack where it has one."""
    text = f"{entry.get('timestamp') or ''} {entry.get('level') or ''} {entry.get('event') or ''}".strip()
    for error in entry.get("error_detail") or []:
        frames = [f"    {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error.get("frames", [])]
        text = "\n".join([text, *frames, f"    {error.get('exc_type')}: {error.get('exc_value')}"])
    return text
