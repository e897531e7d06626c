"""Start a complete stack: PostgreSQL, an S3 store, the model server, Airflow's services. Called by the conftests."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
import requests

from demo import airflow, object_store, postgres
from demo.airflow import Airflow
from demo.ports import free_port
from demo.postgres import Postgres
from demo.processes import Program, Stack
from demo.rest import Rest
from learning_engine.steps.resources import Resources
from tests import tiny
from tests.conftest import ROOT


class Parts(NamedTuple):
    """The running parts, and how to reach them."""

    airflow: Airflow
    rest: Rest
    database: Postgres
    resources: Resources
    model_server: Program


def start(
    stack: Stack,
    directory: Path,
    *,
    settings: Mapping[str, str],
    executor: Callable[[Postgres], Mapping[str, str]] = lambda _: airflow.LOCAL,
    proxy: Callable[[int], int] = lambda port: port,
    options: Mapping[str, str] = MappingProxyType({}),
) -> Parts:
    """Start everything and wait until it is healthy. The feedback table is empty; the DAGs are parsed and paused.

    `settings` are Learning Engine's, as SECTION__NAME. `executor` returns Airflow's options for an executor on that
    database. `proxy` maps the model server's port to the port that tasks use. `options` are Airflow's, as SECTION__KEY.
    """
    ports: set[int] = set()
    base = tiny.make_base(directory / "base")
    database = postgres.prepare(directory / "postgres", port=free_port(taken=ports))
    stack.up(database.program())
    database.create("airflow", "feedback")
    with psycopg.connect(database.uri("feedback")) as connection:
        connection.execute(
            "CREATE TABLE feedback (request_data jsonb, response_data jsonb, feedback_type varchar,"
            " created_at timestamp, user_id text, conversation_id text)"
        )
    store, server = _store(directory, free_port(taken=ports)), _model_server(base, free_port(taken=ports))
    adapters = directory / "adapters"
    adapters.mkdir()
    connections = _connections(adapters, database=database, store=_port(store), server=proxy(_port(server)))
    own = {"MODEL__BASE": str(base), "STORE__SPOOL": str(directory / "spool")}
    environment = {
        **{f"AIRFLOW_CONN_LEARNING_ENGINE_{name}": json.dumps(value) for name, value in connections.items()},
        **{f"LEARNING_ENGINE__{name}": value for name, value in {**settings, **own}.items()},
        **{f"AIRFLOW__{name}": value for name, value in options.items()},
    }
    made = airflow.configure(
        directory / "airflow",
        dags=ROOT / "dags",
        plugins=ROOT / "plugins",
        database=database.uri("airflow", "psycopg2"),
        port=free_port(taken=ports),
        env=environment,
        ports=ports,
        executor=executor(database),
    )
    programs = [store, server]
    started = [stack.start(program) for program in programs]
    stack.run(airflow.migrate(made))
    for program, running in zip(programs, started, strict=True):
        stack.wait(program, running)
    stack.run(
        Program(
            "init",
            (sys.executable, "-m", "learning_engine.airflow.init"),
            env={**made.env, "PYTHONPATH": str(ROOT / "plugins")},
            patience=120,
        )
    )
    programs = airflow.services(made)
    started = [stack.start(program) for program in programs]
    for program, running in zip(programs, started, strict=True):
        stack.wait(program, running)
    rest = Rest(made)
    for name in ("weekly", "deploy", "fisher", "maintenance"):
        rest.wait_for_dag(f"learning_engine_{name}")
    return Parts(made, rest, database, _resources({**os.environ, **environment}), server)


def _store(directory: Path, port: int) -> Program:
    def healthy() -> bool:
        return requests.get(f"http://127.0.0.1:{port}/healthcheck", timeout=2).status_code < 500

    command = object_store.command(directory / "store", port=port)
    return Program(
        "object-store", tuple(command), env=dict(os.environ), cwd=ROOT, healthy=healthy, patience=60, port=port
    )


def _model_server(base: Path, port: int) -> Program:
    def healthy() -> bool:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200

    command = (sys.executable, "-m", "demo.model_server", "--model", str(base), "--name", "tiny", "--port", str(port))
    return Program("model-server", command, env=dict(os.environ), cwd=ROOT, healthy=healthy, patience=90, port=port)


def _port(program: Program) -> int:
    return int(program.command[program.command.index("--port") + 1])


def _connections(adapters: Path, *, database: Postgres, store: int, server: int) -> dict[str, dict[str, Any]]:
    return {
        "FEEDBACK": {
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": database.port,
            "schema": "feedback",
            "login": postgres.USER,
            "password": database.password,
        },
        "STORE": {
            "conn_type": "aws",
            "login": "test:tester",
            "password": "testing",
            "extra": {"endpoint_url": f"http://127.0.0.1:{store}", "region_name": "us-east-1"},
        },
        "SERVING": {
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": server,
            "extra": {"replicas": [f"http://127.0.0.1:{server}"], "adapter_dir": str(adapters)},
        },
    }


def _resources(environment: dict[str, str]) -> Resources:
    """The stack's resources as a task sees them, so that tests can read the bucket."""
    from learning_engine import config
    from learning_engine.airflow import connections

    before = dict(os.environ)
    os.environ.update(environment)
    try:
        opened = connections.connect(config.load())
        store, feedback, serving = opened.store, opened.open_feedback(), opened.serving
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Resources(opened.settings, lambda: store, lambda: feedback, lambda: serving)
