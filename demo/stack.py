"""Start the demo's stack on loopback: PostgreSQL, the S3 store, the model server and Airflow, concurrently."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests

from demo import airflow, lessons, max_server, postgres
from demo.airflow import Airflow
from demo.console import Screen
from demo.object_store import ObjectStore, why_not_swift
from demo.object_store import command as store_command
from demo.ports import LOOPBACK, free_port, require_disk
from demo.postgres import Postgres
from demo.processes import Program, Stack
from demo.worlds import World

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".demo"
CACHE = ROOT / ".cache" / "demo"
SERVERS = ("local", "max")
FEEDBACK_COLUMNS = "ALTER TABLE feedback ADD COLUMN user_id text, ADD COLUMN conversation_id text"


@dataclass(frozen=True)
class RunningStack:
    """A running stack, and how to reach its parts."""

    airflow: Airflow
    store: ObjectStore
    server: str
    world: World
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Ports:
    """The ports, chosen once, so that two parts that start at the same time get different ones."""

    postgres: int
    store: int
    server: int
    airflow: int
    taken: set[int]


def choose_ports(screen: Screen) -> Ports:
    """Choose the usual ports, or the next free ones, and print each change."""
    taken: set[int] = set()
    wanted = {"postgres": 5442, "store": 9010, "server": 8210, "airflow": 8080}
    found = {name: free_port(port, taken=taken) for name, port in wanted.items()}
    for name, port in wanted.items():
        if found[name] != port:
            screen.say(f"Port {port} is in use: {name} uses {found[name]}.", "yellow")
    return Ports(**found, taken=taken)


def clear(stack: Stack, screen: Screen, *, gigabytes: float) -> None:
    """Stop an earlier demo that is still running, delete its files, and require `gigabytes` of free disk."""
    if stopped := stack.stop():
        screen.say(f"An earlier demo was still running and was stopped: {', '.join(stopped)}.", "yellow")
    postgres.remove(HOME / "postgres")
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    require_disk(HOME, gigabytes=gigabytes)


def bring_up(stack: Stack, screen: Screen, world: World, weeks: list[lessons.Week], server: str) -> RunningStack:
    """Start everything with `server`, one of SERVERS, and the base model of `world`, and fill the feedback table.

    Raises StackError if a part does not start.
    """
    ports = choose_ports(screen)
    settings = _settings(world)
    pool = ThreadPoolExecutor(8)
    try:
        store = pool.submit(_store, stack, screen, ports)
        served = pool.submit(_model, stack, screen, world, ports, server)
        database = _postgres(stack, screen, ports)
        filled = pool.submit(_feedback, screen, database, weeks)
        connected = partial(_connections, database, ports, store)
        services = _airflow(stack, screen, database, ports, settings, connected)
        _wait_for(store, served, filled)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return RunningStack(services, store.result(), f"http://{LOOPBACK}:{ports.server}", world, settings)


def _settings(world: World) -> dict[str, str]:
    """The environment variables by which every process finds the demo's configuration and files, which are written."""
    return {
        "LEARNING_ENGINE_CONFIG": str(world.configuration),
        "LEARNING_ENGINE__MODEL__BASE": str(world.base()),
        "LEARNING_ENGINE__STORE__SPOOL": str(HOME / "spool"),
        "OMP_NUM_THREADS": str(world.threads),
        **world.write_files(HOME),
    }


def python(name: str, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Program:
    """A program of this repository, run by this Python."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "LEARNING_ENGINE"))}
    paths = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    environment = {**kept, **threads, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **(env or {})}
    return Program(name, (sys.executable, *arguments), env=environment, cwd=ROOT, **options)


def restarted(program: Program) -> Program:
    """The same program, restarted whenever it exits on its own; -P keeps `demo/` off its import path."""
    return replace(program, command=(sys.executable, "-P", str(ROOT / "demo" / "keeper.py"), *program.command))


def _postgres(stack: Stack, screen: Screen, ports: Ports) -> Postgres:
    with screen.stage("PostgreSQL") as stage:
        database = postgres.prepare(HOME / "postgres", port=ports.postgres)
        stack.up(database.program())
        database.create("airflow", "feedback")
        stage.note = "from a wheel" + (", run by the user nobody" if database.user is not None else "")
    return database


def _feedback(screen: Screen, database: Postgres, weeks: list[lessons.Week]) -> None:
    with screen.stage("Feedback table") as stage, psycopg.connect(database.uri("feedback")) as connection:
        connection.execute((ROOT / "include" / "sql" / "feedback.sql").read_text())
        connection.execute(FEEDBACK_COLUMNS)
        rows = [row.values() for week in weeks for row in week.rows]
        with connection.cursor().copy(f"COPY feedback ({', '.join(lessons.COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        stage.note = f"{len(rows)} thumbs in {len(weeks)} weeks"


def _store(stack: Stack, screen: Screen, ports: Ports) -> ObjectStore:
    with screen.stage("Object store") as stage:
        directory = HOME / "object-store"
        directory.mkdir()
        reason = why_not_swift(directory)
        command = tuple(store_command(directory, port=ports.store))
        found: list[ObjectStore] = []

        def healthy() -> bool:
            lines = (stack.logs / "object-store.log").read_text().splitlines()
            found[:] = [ObjectStore(**json.loads(line)) for line in lines if line.startswith("{")]
            return bool(found) and requests.get(found[0].health, timeout=5).ok

        stack.up(replace(python("object-store"), command=command, healthy=healthy, port=ports.store))
        stage.note = found[0].kind + (f": {reason}" if reason else "")
    return found[0]


def _model(stack: Stack, screen: Screen, world: World, ports: Ports, server: str) -> None:
    """Create the base model if needed, then start the server."""
    model = world.base()
    with screen.stage("Base model") as stage:
        stage.note = f"{model.name}, cached" if model.exists() else f"{model.name}, made by {world.maker}"
        if not model.exists():
            stack.run(python("base-model", "-m", world.maker, str(model), patience=600))
    with screen.stage("Model server") as stage:
        if server == "max":
            # Shown during compilation, which takes three minutes the first time.
            stage.note = max_server.NOTE
            stack.up(max_server.program(model, world.name, port=ports.server))
            max_server.warm_up(f"http://{LOOPBACK}:{ports.server}", world.name)
        else:
            stack.up(_local_server(world, ports.server))
            stage.note = "MAX Serve's LoRA interface, on the CPU"


def _local_server(world: World, port: int) -> Program:
    arguments = ("--model", str(world.base()), "--name", world.name, "--port", str(port), "--max-loras", "2")
    health = f"http://{LOOPBACK}:{port}/health"
    return python(
        "model-server",
        "-m",
        "demo.model_server",
        *arguments,
        env={"OMP_NUM_THREADS": str(world.threads)},
        healthy=lambda: requests.get(health, timeout=5).ok,
        port=port,
    )


def _airflow(
    stack: Stack,
    screen: Screen,
    database: Postgres,
    ports: Ports,
    settings: Mapping[str, str],
    connections: Callable[[], dict[str, str]],
) -> Airflow:
    bare = airflow.configure(
        HOME / "airflow",
        dags=ROOT / "dags",
        plugins=ROOT / "plugins",
        database=database.uri("airflow", "psycopg2"),
        port=ports.airflow,
        env=settings,
        ports=ports.taken,
    )
    with screen.stage("Airflow's database"):
        stack.run(airflow.migrate(bare))
    configured = replace(bare, env={**bare.env, **connections()})
    with screen.stage("Airflow") as stage:
        services = [(program, stack.start(program)) for program in map(restarted, airflow.services(configured))]
        init = python("make-init", "-m", "learning_engine.airflow.init", patience=120)
        stack.run(replace(init, env={**init.env, **configured.env}))
        for program, running in services:
            stack.wait(program, running)
        stage.note = "api-server, scheduler, dag-processor, triggerer; pools and bucket"
    return configured


def _connections(database: Postgres, ports: Ports, store: "Future[ObjectStore]") -> dict[str, str]:
    """Airflow's connections as environment variables, which the services must have at their start."""
    s3 = store.result()
    adapters = HOME / "adapters"
    adapters.mkdir(exist_ok=True)
    server = f"http://{LOOPBACK}:{ports.server}"
    connections: dict[str, dict[str, Any]] = {
        "FEEDBACK": {
            "conn_type": "postgres",
            "host": LOOPBACK,
            "port": database.port,
            "schema": "feedback",
            "login": postgres.USER,
            "password": database.password,
        },
        "STORE": {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": {"endpoint_url": s3.endpoint, "region_name": s3.region},
        },
        "SERVING": {"conn_type": "http", "extra": {"replicas": [server], "adapter_dir": str(adapters)}},
    }
    return {f"AIRFLOW_CONN_LEARNING_ENGINE_{name}": json.dumps(value) for name, value in connections.items()}


def _wait_for(*futures: "Future[Any]") -> None:
    for future in futures:
        future.result()
