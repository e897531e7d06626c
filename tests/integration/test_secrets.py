"""After successful and failing runs, no secret is stored anywhere, and user text only in its intended files.

Searched: every log, every table of Airflow's database (XComs, rendered fields, audit log, task notes), every object of
the bucket with its name and metadata, and the files on the worker's disk.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from demo import airflow
from demo.ports import free_port
from learning_engine.records.contracts import AdapterVersion, Window
from tests.integration.conftest import Live, until, week
from tests.integration.test_decisions import DAG
from tests.integration.test_manual_runs import DEPLOY
from tests.integration.test_reconcile import deploy
from tests.integration.texts import disk, find, logs, objects, tables

COUNT = 40
# The objects of versions and runs that may contain user text.
TEXTS = ("dataset.parquet", "heldout.parquet", "quarantine.parquet", "replay.parquet", "probes.json")
USER_TEXT = {
    name: f"zq{name}9f81c4" for name in ("prompt", "answer", "user", "conversation", "unreadable", "contested")
}
SECRETS = {name: f"planted-{name}-5d0b7e" for name in ("option", "key", "replica", "password", "database", "store")}
# The first test waits for the runs that the fixtures start.
pytestmark = pytest.mark.timeout(900)


@dataclass
class Results:
    """The planted secrets, the runs, the published version, and logs that a restart would overwrite."""

    secrets: dict[str, str]
    logs: dict[str, str] = field(default_factory=dict)
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)
    version: AdapterVersion | None = None


def rows(live: Live) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A minute of feedback with markers in every part, an unreadable row and a contested answer; its window."""
    start = max([week(4).end, *(version.window.end for version in live.resources.registry.versions())])

    def row(index: int, question: str, answer: str, kind: str = "thumbs_up") -> dict[str, Any]:
        return {
            "request_data": {"messages": [{"role": "user", "content": question}]},
            "response_data": {"choices": [{"message": {"content": answer}}]},
            "feedback_type": kind,
            "created_at": (start + timedelta(seconds=index)).isoformat(),
            "user_id": f"{USER_TEXT['user']} {index % 7}",
            "conversation_id": f"{USER_TEXT['conversation']}-{index}",
        }

    found = [
        row(index, f"what is {USER_TEXT['prompt']} number {index}", f"{USER_TEXT['answer']} it is")
        for index in range(COUNT)
    ]
    unreadable = row(COUNT, "", "") | {"request_data": {USER_TEXT["unreadable"]: USER_TEXT["unreadable"]}}
    contested = [
        row(COUNT + 1 + index, USER_TEXT["contested"], USER_TEXT["contested"], f"thumbs_{kind}")
        for index, kind in enumerate(("up", "down"))
    ]
    window = {"window_start": start.isoformat(), "window_end": (start + timedelta(minutes=1)).isoformat()}
    return [*found, unreadable, *contested], window


def connections(live: Live) -> dict[str, dict[str, Any]]:
    """The stack's connections, with a secret in every field that may have one."""
    prefix = "AIRFLOW_CONN_LEARNING_ENGINE_"
    found = {
        name.removeprefix(prefix): json.loads(value)
        for name, value in live.airflow.env.items()
        if name.startswith(prefix)
    }
    found["FEEDBACK"]["extra"] = {
        "sslpassword": SECRETS["key"],
        "options": f"-c learning_engine.planted={SECRETS['option']}",
    }
    serving = found["SERVING"]
    serving["password"] = SECRETS["password"]
    serving["extra"]["replicas"] = [f"http://ada:{SECRETS['replica']}@127.0.0.1:{serving['port']}"]
    return found


def restart_scheduler(live: Live, results: Results, given: dict[str, dict[str, Any]]) -> None:
    """Restart the scheduler, so that later tasks use the connections `given`; keep its log so far."""
    (program,) = [one for one in airflow.services(live.airflow) if one.name == "scheduler"]
    for running in live.stack.running():
        if running.name == program.name and (leader := running.leader()):
            leader.terminate()
            until("the scheduler to end", lambda running=running: running.leader() is None, 60)
    results.logs[f"scheduler {len(results.logs)}"] = (live.stack.logs / "scheduler.log").read_text(errors="replace")
    variables = {f"AIRFLOW_CONN_LEARNING_ENGINE_{name}": json.dumps(value) for name, value in given.items()}
    live.stack.up(replace(program, env={**live.airflow.env, **variables}))


def run(live: Live, results: Results, what: str, dag_id: str, **conf: Any) -> str:
    live.rest.unpause(dag_id)
    started = live.trigger(dag_id, conf=conf)
    results.runs[what] = (started, dag_id)
    return live.wait_for_end(started, dag_id)


def deploy_the_next_parent(live: Live, window: Window) -> None:
    """Deploy the next version's parent if another version is live; otherwise the next version would not be deployed."""
    registry, settings, now = live.resources.registry, live.resources.settings, live.resources.ledger.current()
    parent = registry.parent_for(window, base_model=settings.model.base, base_revision=None, lora=live.resources.shape)
    if parent is not None and (now is None or now.version != parent.version):
        live.rest.unpause(DEPLOY)
        deploy(live, parent)


@contextmanager
def server_without_lora(live: Live) -> Iterator[None]:
    live.restart_model_server("--max-loras", "0")
    try:
        yield
    finally:
        live.restart_model_server()


@pytest.fixture(scope="module")
def results(live: Live) -> Iterator[Results]:
    """One weekly run that succeeds, and one run for each kind of failure."""
    found = Results({**SECRETS, "feedback": live.database.password, "swift": "testing"})
    given, dead = connections(live), free_port()
    marked, window = rows(live)
    live.add_feedback(marked)
    deploy_the_next_parent(live, Window(*map(datetime.fromisoformat, window.values())))
    try:
        restart_scheduler(live, found, given)
        assert run(live, found, "it succeeds", DAG, **window, force="quality") == "success"
        version = live.resources.registry.get(live.xcom(found.runs["it succeeds"][0], "publish")["version"])
        found.version = version
        choice = {"action": "deploy", "version": version.version}
        with server_without_lora(live):
            run(live, found, "the server refuses", DEPLOY, **choice)

        wrong = {**given, "FEEDBACK": {**given["FEEDBACK"], "password": SECRETS["database"]}}
        replicas = [f"http://ada:{SECRETS['replica']}@127.0.0.1:{dead}"]
        wrong["SERVING"] = {**given["SERVING"], "extra": {**given["SERVING"]["extra"], "replicas": replicas}}
        restart_scheduler(live, found, wrong)
        run(live, found, "the database refuses", DAG, **window, min_samples=1)
        run(live, found, "the server is down", DEPLOY, **choice)

        restart_scheduler(live, found, {**given, "STORE": {**given["STORE"], "password": SECRETS["store"]}})
        run(live, found, "the store refuses", DEPLOY, **choice)

        nowhere = {**given["STORE"]["extra"], "endpoint_url": f"http://127.0.0.1:{dead}"}
        restart_scheduler(live, found, {**given, "STORE": {**given["STORE"], "extra": nowhere}})
        run(live, found, "the store is down", DEPLOY, **choice)
        yield found
    finally:
        restart_scheduler(live, found, {})


def test_the_runs_ended_as_planned(live: Live, results: Results):
    states = {what: live.state(*one) for what, one in results.runs.items()}
    assert states == dict.fromkeys(states, "failed") | {"it succeeds": "success"}
    succeeded, _ = results.runs["it succeeds"]
    assert set(live.states(succeeded).values()) == {"success"}, live.xcom(succeeded, "accepted", "verdict")


@pytest.mark.parametrize(
    ("what", "task", "says"),
    [
        ("the database refuses", "extract", "password authentication failed"),
        ("the store refuses", "choose", "StoreRefused"),
        ("the store is down", "choose", "StoreError"),
        ("the server refuses", "deploy", "found 501"),
        ("the server is down", "deploy", "NoAnswer"),
    ],
)
def test_an_error_says_what_is_wrong_and_with_which_server(
    live: Live, results: Results, what: str, task: str, says: str
):
    run, dag_id = results.runs[what]
    assert says in live.log(run, task, dag_id)


def test_the_log_contains_no_secret_and_no_user_text(live: Live, results: Results):
    needles = {**results.secrets, **USER_TEXT}
    assert find(results.logs.items(), needles) | find(logs(live), needles) == set()


def test_airflows_database_contains_no_secret_and_no_user_text(live: Live, results: Results):
    seen = {where for where, _ in tables(live)}
    assert {f"a row of {name}" for name in ("xcom", "rendered_task_instance_fields", "log", "task_instance")} <= seen
    assert find(tables(live), {**results.secrets, **USER_TEXT}) == set()


def test_the_bucket_holds_no_secret(live: Live, results: Results):
    assert find(objects(live), results.secrets) == set()


def test_the_bucket_contains_user_text_only_in_parquet_files_and_probes(live: Live, results: Results):
    places = find(objects(live), USER_TEXT)
    assert {where for where, _ in places if not where.endswith(TEXTS)} == set()
    holders = {where.rpartition("/")[2]: set[str]() for where, _ in places}
    for where, what in places:
        holders[where.rpartition("/")[2]].add(what)
    assert holders["dataset.parquet"] == {"prompt", "answer"}, "users and conversations are stored only as digests"
    assert holders["quarantine.parquet"] == {"contested"}


def test_the_workers_disk_contains_no_secret_and_no_user_text(live: Live, results: Results):
    assert any(disk(live))
    assert find(disk(live), {**results.secrets, **USER_TEXT}) == set()
