"""SIGKILL to the process of every task of one weekly run, each at the worst moment, through the real scheduler."""

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
from learning_engine.serving.client import Replica
from tests.integration.conftest import Live, until
from tests.integration.test_decisions import DAG, learned, taught

# With SETTINGS: four steps an epoch, and a checkpoint at step 200.
EPOCHS = 80
TASKS = (
    "turn",
    "extract",
    "enough",
    "fisher",
    "train",
    "evaluate",
    "publish",
    "accepted",
    "approve",
    "deploy",
    "verify",
)
# Whichever test comes first brings the runs about.
pytestmark = pytest.mark.timeout(900)
Condition = Callable[[], Any]


def processes(live: Live, task: dict[str, Any]) -> list[psutil.Process]:
    """The process that a try of a task runs in; its supervisor is its parent."""
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
    """Kill the process of the task `name` as soon as `moment()` is true, and wait until its supervisor has seen it."""
    task = until(f"a try of {name}", lambda: live.tasks(run)[name])
    deadline = time.monotonic() + 240
    while not (found := processes(live, task)):
        assert time.monotonic() < deadline, f"waited 240 s for the process of {name}: {live.states(run)}"
    (process,) = found
    try:
        # It runs in slices of so many seconds, so that it cannot get past the moment unseen.
        process.suspend()
        while not moment():
            assert time.monotonic() < deadline, f"waited 240 s for the moment in {name}"
            process.resume()
            time.sleep(slice)
            process.suspend()
        assert live.tasks(run)[name]["state"] == "running"
    finally:
        process.kill()
    until(f"{name} to be tried again", lambda: live.tasks(run)[name]["try_number"] == task["try_number"] + 1, 60)


@contextmanager
def table_locked(live: Live) -> Iterator[Condition]:
    """The feedback table cannot be read; gives whether somebody waits for it."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'learning_engine' AND wait_event_type = 'Lock'"
    uri = live.database.uri("feedback")
    with psycopg.connect(uri) as locked, psycopg.connect(uri, autocommit=True) as looking:
        locked.execute("LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE")
        yield lambda: looking.execute(waiting).fetchone()


class Watch(threading.Thread):
    """Looks at the bucket and at the model server for as long as a run is under way."""

    def __init__(self, live: Live) -> None:
        super().__init__(daemon=True)
        self.resources, self.ended = live.resources, threading.Event()
        self.replica = Replica(live.resources.serving.replicas[0], live.resources.settings.serving)
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


def asked_again(live: Live, run: str) -> str:
    """As `Live.asked`, where the process that was to take the answer has died."""
    until("the second question", lambda: live.states(run)["approve"] == "awaiting_input", 60)
    seen = re.compile(rf"Received executor event.*task_id='approve', run_id='{re.escape(run)}'")
    scheduler = live.stack.logs / "scheduler.log"
    # Of the first question, of the death, of the second question.
    until("the scheduler to see it", lambda: len(seen.findall(scheduler.read_text())) >= 3, 60)
    return str(live.question(run)["subject"])


@pytest.fixture(scope="module")
def parent(live: Live) -> AdapterVersion:
    """A version that is live, so that there is something to guard."""
    live.rest.unpause(DAG)
    if (current := live.resources.ledger.current()) is None:
        ended = learned(live, taught(live, "before the deaths", count=40, lessons=13))
        current = live.resources.ledger.current()
        assert current is not None, live.states(ended.run)
    return live.resources.registry.get(current.version)


@dataclass(frozen=True)
class Survivor:
    """A run that has ended, of which every task was killed once, and what was seen meanwhile."""

    run: str
    watch: Watch
    numbers: list[str]


@pytest.fixture(scope="module")
def survivor(live: Live, parent: AdapterVersion) -> Survivor:
    store, published = live.resources.store, live.resources.registry.numbers()
    known = {one.key for one in store.list(manifest.ADAPTERS)}
    decisions = len(live.resources.ledger.entries())
    watch = Watch(live)

    def there(prefix: str) -> Condition:
        return lambda: next(store.list(prefix), None)

    def begun() -> bool:
        return any(one.key not in known for one in store.list(manifest.ADAPTERS))

    conf = {**taught(live, "deaths", count=40, lessons=14), "deploy": "approve", "epochs": EPOCHS}
    with table_locked(live) as somebody_waits:
        run = live.trigger(conf=conf)
        kill(live, run, "turn")
        kill(live, run, "extract", somebody_waits)
    watch.start()
    try:
        kill(live, run, "enough")
        kill(live, run, "fisher", there(f"{manifest.FISHER}{parent.version}/"))
        key = live.xcom(run, "extract")["run_key"]
        kill(live, run, "train", there(manifest.run_key(key, "checkpoints/")), slice=0.25)
        kill(live, run, "evaluate", there(manifest.run_key(key, "heldout.parquet")))
        kill(live, run, "publish", begun)
        kill(live, run, "accepted")
        subject = live.asked(run)
        live.answer(run, "Approve")
        kill(live, run, "approve")
        assert asked_again(live, run) == subject
        live.answer(run, "Approve")
        version = live.xcom(run, "publish")
        name = manifest.server_name(version["version"], version["sha256"])
        kill(live, run, "deploy", lambda: name in watch.replica.models())
        kill(live, run, "verify", lambda: len(live.resources.ledger.entries()) > decisions)
        live.ended(run)
    finally:
        watch.ended.set()
        watch.join()
    return Survivor(run, watch, published)


def made(live: Live, survivor: Survivor) -> AdapterVersion:
    """The one version that is new."""
    (number,) = set(live.resources.registry.numbers()) - set(survivor.numbers)
    return live.resources.registry.get(number)


def test_a_run_of_which_every_task_was_killed_ends_well(live: Live, survivor: Survivor):
    assert live.state(survivor.run) == "success", live.explain(survivor.run)
    tasks = live.tasks(survivor.run)
    assert {name: (tasks[name]["state"], tasks[name]["try_number"]) for name in TASKS} == dict.fromkeys(
        TASKS, ("success", 2)
    )


def test_it_makes_one_version_and_puts_it_live_once(live: Live, survivor: Survivor, parent: AdapterVersion):
    version = made(live, survivor)
    assert (version.run.run_id, version.parent) == (survivor.run, parent.version)
    entries = [entry for entry in live.resources.ledger.entries() if entry.run.run_id == survivor.run]
    assert [(entry.version, entry.previous) for entry in entries] == [(version.version, parent.version)]
    assert entries[0] == live.resources.ledger.current()
    assert entries[0].decided_by == "admin, by approval"
    assert survivor.watch.replica.models().count(manifest.server_name(version.version, version.sha256)) == 1


def test_no_half_version_was_ever_listed_and_nothing_is_left_half_done(live: Live, survivor: Survivor):
    assert survivor.watch.looks > 10
    assert survivor.watch.wrong == set()
    assert audit(live.resources.store, live.resources.registry) == []


def test_the_training_went_on_from_its_checkpoint(live: Live, survivor: Survivor):
    training = made(live, survivor).training
    assert 0 < training.resumed_at_step < training.steps
