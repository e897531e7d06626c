"""Airflow on one machine: api-server, scheduler, dag-processor and triggerer, each a supervised process.

It runs on PostgreSQL and loopback with few workers. This module does not import Airflow: it runs Airflow's programs,
and `demo.rest` calls its REST API.
"""

import json
import os
import secrets
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from demo.ports import LOOPBACK, free_port
from demo.processes import Program, Stack

USER = "admin"
# Imported once, by the process from which all task processes are forked. Otherwise four runs of three heavy tasks would
# import torch and the rest twelve times, about five seconds each. Do not do this on a worker with a GPU.
PRELOADED = ("airflow.executors.local_executor", "torch", "transformers", "peft", "datasets", "boto3")
# Airflow's options for an executor inside the scheduler; `configure` may replace them with another executor's.
LOCAL = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__PARALLELISM": "4",
    "CORE__MP_START_METHOD": "forkserver",
    "CORE__MP_FORKSERVER_PRELOAD": ",".join(PRELOADED),
}
# Airflow inherits only these environment variables: an AIRFLOW__… variable of the shell would change the demo.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "http_proxy", "https_proxy")


@dataclass(frozen=True)
class Airflow:
    """An Airflow that can be started: its environment, and the port of its REST API and UI."""

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


def configure(
    home: Path,
    *,
    dags: Path,
    plugins: Path,
    database: str,
    port: int,
    env: Mapping[str, str],
    ports: set[int],
    executor: Mapping[str, str] = LOCAL,
) -> Airflow:
    """Write the login and build the environment; `env` (connections, configuration) overrides it.

    `database` is a URI of the form `postgresql+psycopg2://…`. `executor` has the executor's options as SECTION__KEY.
    """
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://{LOOPBACK}:{port}"
    passwords = home / "passwords.json"
    passwords.touch(mode=0o600)
    password = secrets.token_urlsafe(9)
    passwords.write_text(json.dumps({USER: password}))
    options = {
        **executor,
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
    # Concurrent tasks share two cores: one thread per task is faster than two that compete.
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    settings = {f"AIRFLOW__{key}": value for key, value in options.items()}
    path = {"AIRFLOW_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}"}
    return Airflow(home, port, password, {**inherited, **quiet, **settings, **path, **env})


def migrate(airflow: Airflow) -> Program:
    return airflow.program("airflow-migrate", "db", "migrate", patience=120)


def services(airflow: Airflow) -> list[Program]:
    """The four processes. Each is healthy once Airflow's health report says so."""

    def beats(component: str) -> Callable[[], bool]:
        def healthy() -> bool:
            report: dict[str, Any] = requests.get(f"{airflow.url}/api/v2/monitor/health", timeout=5).json()
            return (report.get(component) or {}).get("status") == "healthy"

        return healthy

    # All logs are on the api-server's disk, so the log servers are not needed. After its shutdown the api-server frees
    # its memory for half a minute; the short grace period skips that.
    return [
        airflow.program(
            "api-server", "api-server", healthy=beats("metadatabase"), port=airflow.port, patience=120, grace=2
        ),
        airflow.program("scheduler", "scheduler", "--skip-serve-logs", healthy=beats("scheduler"), patience=120),
        airflow.program("dag-processor", "dag-processor", healthy=beats("dag_processor"), patience=120),
        airflow.program("triggerer", "triggerer", "--skip-serve-logs", healthy=beats("triggerer"), patience=120),
    ]


def backfill(
    airflow: Airflow, stack: Stack, dag_id: str, *, first: datetime, last: datetime, max_active_runs: int
) -> str:
    """Run `airflow backfill create` for the intervals starting from `first` to `last`, inclusive; return its output."""
    dates = ("--from-date", first.isoformat(), "--to-date", last.isoformat())
    arguments = ("backfill", "create", "--dag-id", dag_id, *dates, "--max-active-runs", str(max_active_runs))
    return stack.run(airflow.program("airflow-backfill", *arguments, patience=120))
