"""Kill the process of every task of one weekly run, each at its worst moment, through the real scheduler.

Proven here: Airflow retries each task with the results of the earlier ones, an approval is asked for again, and whoever
looks at bucket and server meanwhile sees nothing half done. The gaps between any two writes of a step are tested in
tests/faults/test_kills, the death of a whole worker in celery/test_killed_workers.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
import pytest

from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.registry.audit import audit
from tests.integration.conftest import Live, until
from tests.integration.test_decisions import DAG, add_feedback_window, run_to_success

# With SETTINGS there are four steps per epoch and a checkpoint at step 200.
EPOCHS = 80
# The first test waits for the runs that the fixtures start.
pytestmark = pytest.mark.timeout(900)
Condition = Callable[[], Any]


def processes(live: Live, task: dict[str, Any]) -> list[psutil.Process]:
    """The process of a task attempt; its parent is the supervisor."""
    schedulers = [running.leader() for running in live.stack.running() if running.name == "scheduler"]
    found = []
    for process in (child for leader in schedulers if leader for child in leader.children(recursive=True)):
        try:
            if process.cmdline()[:1] == [f"airflow worker -- {task['id']}"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(live: Live, run: str, name: str, moment: Condition = lambda: True, *, slice: float = 0.02) -> None:
    """Kill the process of the task `name` as soon as `moment()` is true, and wait until the task is retried."""
    task = until(f"an attempt of {name}", lambda: live.tasks(run)[name])
    deadline = time.monotonic() + 240
    while not (found := processes(live, task)):
        assert time.monotonic() < deadline, f"waited 240 s for the process of {name}: {live.states(run)}"
    (process,) = found
    try:
        # It runs only for `slice` seconds at a time, so that it cannot pass the moment unnoticed.
        process.suspend()
        while not moment():
            assert time.monotonic() < deadline, f"waited 240 s for the moment in {name}"
            process.resume()
            time.sleep(slice)
            process.suspend()
        assert live.tasks(run)[name]["state"] == "running"
    finally:
        process.kill()
    until(f"the retry of {name}", lambda: live.tasks(run)[name]["try_number"] == task["try_number"] + 1, 60)


@contextmanager
def locked_table(live: Live) -> Iterator[Condition]:
    """Lock the feedback table; yields a condition that is true while a reader waits for the lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'learning_engine' AND wait_event_type = 'Lock'"
    uri = live.database.uri("feedback")
    with psycopg.connect(uri) as locked, psycopg.connect(uri, autocommit=True) as observing:
        locked.execute("LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE")
        yield lambda: observing.execute(waiting).fetchone()


class Watch(threading.Thread):
    """Checks the bucket and the model server repeatedly during a run; `wrong` collects the faults."""

    def __init__(self, live: Live) -> None:
        super().__init__(daemon=True)
        self.resources, self.ended = live.resources, threading.Event()
        self.replica = live.replica
        self.looks, self.wrong = 0, set[str]()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001
                self.wrong.add(repr(error))
            self.looks += 1

    def look(self) -> None:
        self.wrong |= set(map(str, audit(self.resources.store, self.resources.registry)))
        listed = self.replica.models()
        self.wrong |= {f"{name} is listed twice" for name in listed if listed.count(name) > 1}


def wait_for_second_question(live: Live, run: str) -> str:
    """Like `Live.wait_for_question`, after the process that should have taken the answer was killed."""
    until("the second question", lambda: live.states(run)["approve"] == "awaiting_input", 60)
    seen = re.compile(rf"Received executor event.*task_id='approve', run_id='{re.escape(run)}'")
    scheduler = live.stack.logs / "scheduler.log"
    # Events of the first question, of the kill, and of the second question.
    until("the scheduler to see the second question", lambda: len(seen.findall(scheduler.read_text())) >= 3, 60)
    return str(live.question(run)["subject"])


@pytest.fixture(scope="module")
def parent(live: Live) -> AdapterVersion:
    """A live version, so that the run has a parent to protect."""
    live.rest.unpause(DAG)
    if (current := live.resources.ledger.current()) is None:
        ended = run_to_success(live, add_feedback_window(live, "before the deaths", count=40, subject=13))
        current = live.resources.ledger.current()
        assert current is not None, live.states(ended.run)
    return live.resources.registry.get(current.version)


@dataclass(frozen=True)
class Survivor:
    """An ended run whose tasks were each killed once, its watch, and the versions that existed before."""

    run: str
    watch: Watch
    numbers: list[str]


@pytest.fixture(scope="module")
def survivor(live: Live, parent: AdapterVersion) -> Survivor:
    store, published = live.resources.store, live.resources.registry.numbers()
    known = {one.key for one in store.list(manifest.ADAPTERS)}
    decisions = len(live.resources.ledger.entries())
    watch = Watch(live)

    def exists(prefix: str) -> Condition:
        return lambda: next(store.list(prefix), None)

    def publish_has_begun() -> bool:
        return any(one.key not in known for one in store.list(manifest.ADAPTERS))

    conf = {**add_feedback_window(live, "deaths", count=40, subject=14), "deploy": "approve", "epochs": EPOCHS}
    # Whatever the gate says of a training that is this long.
    conf["force"] = "quality"
    with locked_table(live) as reader_waits:
        run = live.trigger(conf=conf)
        kill(live, run, "turn")
        kill(live, run, "extract", reader_waits)
    watch.start()
    try:
        kill(live, run, "enough")
        kill(live, run, "fisher", exists(f"{manifest.FISHER}{parent.version}/"))
        key = live.xcom(run, "extract")["run_key"]
        kill(live, run, "train", exists(manifest.run_key(key, "checkpoints/")), slice=0.25)
        kill(live, run, "evaluate", exists(manifest.run_key(key, "heldout.parquet")))
        kill(live, run, "publish", publish_has_begun)
        kill(live, run, "accepted")
        subject = live.wait_for_question(run)
        live.answer(run, "Approve")
        kill(live, run, "approve")
        assert wait_for_second_question(live, run) == subject
        live.answer(run, "Approve")
        version = live.xcom(run, "publish")
        name = manifest.server_name(version["version"], version["sha256"])
        kill(live, run, "deploy", lambda: name in watch.replica.models())
        kill(live, run, "verify", lambda: len(live.resources.ledger.entries()) > decisions)
        live.wait_for_end(run)
    finally:
        watch.ended.set()
        watch.join()
    return Survivor(run, watch, published)


def new_version(live: Live, survivor: Survivor) -> AdapterVersion:
    """The one version that the run added."""
    (number,) = set(live.resources.registry.numbers()) - set(survivor.numbers)
    return live.resources.registry.get(number)


def test_a_run_succeeds_although_every_task_was_killed_once(live: Live, survivor: Survivor):
    assert live.state(survivor.run) == "success", live.explain(survivor.run)
    tasks = live.tasks(survivor.run)
    ended = {name: (task["state"], task["try_number"]) for name, task in tasks.items()}
    assert ended == dict.fromkeys(tasks, ("success", 2)), "every task of the DAG was killed once"


def test_it_publishes_one_version_and_deploys_it_once(live: Live, survivor: Survivor, parent: AdapterVersion):
    version = new_version(live, survivor)
    assert (version.run.run_id, version.parent) == (survivor.run, parent.version)
    entries = [entry for entry in live.resources.ledger.entries() if entry.run.run_id == survivor.run]
    assert [(entry.version, entry.previous) for entry in entries] == [(version.version, parent.version)]
    assert entries[0] == live.resources.ledger.current()
    assert entries[0].decided_by == "admin, by approval"
    assert survivor.watch.replica.models().count(manifest.server_name(version.version, version.sha256)) == 1


def test_no_partial_version_was_ever_listed_and_no_work_is_unfinished(live: Live, survivor: Survivor):
    assert survivor.watch.looks > 10
    assert survivor.watch.wrong == set()
    assert audit(live.resources.store, live.resources.registry) == []


def test_the_training_resumed_from_its_checkpoint(live: Live, survivor: Survivor):
    training = new_version(live, survivor).training
    assert 0 < training.resumed_at_step < training.steps
