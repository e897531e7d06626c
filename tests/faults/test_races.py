"""Concurrent publishing: two runs, one paused at any of its requests while the other continues, and real races.

The result is always two complete versions with two numbers, whether the store's conditional writes are atomic, not
atomic, or not supported.
"""

import itertools
import multiprocessing
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demo.object_store import ObjectStore
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry.audit import audit
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.faults.proxy import PATIENCE, Exchange, Proxy, answers, passes
from tests.object_stores import client_of, new_bucket
from tests.registry.work import Work, stage, week

RACER = "x-racer"
NEVER = 10_000
ATOMIC, RACY, NONE = "atomic conditions", "conditions that are not atomic", "no conditions"


class Track:
    """The requests of one racer, which is held before its request number `hold_at`."""

    def __init__(self, hold_at: int) -> None:
        self.hold_at, self.requests = hold_at, list[str]()
        self.held, self.free = threading.Event(), threading.Event()

    @property
    def count(self) -> int:
        return len(self.requests)

    def pass_point(self, exchange: Exchange) -> None:
        self.requests.append(f"{exchange.command} {exchange.key}")
        if self.count == self.hold_at:
            self.held.set()
            assert self.free.wait(PATIENCE)


class Gates:
    """A fault of the proxy that holds racers and handles conditions as the given kind of store does."""

    def __init__(self, kind: str, tracks: dict[str, Track]) -> None:
        self.kind, self.tracks = kind, tracks

    def __call__(self, exchange: Exchange) -> None:
        track = self.tracks[exchange.headers[RACER]]
        track.pass_point(exchange)
        if "If-None-Match" not in exchange.headers or self.kind == ATOMIC:
            passes(exchange)
        elif self.kind == NONE:
            answers(501, "NotImplemented")(exchange)
        elif exchange.exists():
            answers(412, "PreconditionFailed")(exchange)
        else:
            track.pass_point(exchange)
            exchange.reply(exchange.forward(without="If-None-Match"))


def signing(client: Any, name: str) -> Any:
    """Make the client's requests name their racer."""

    def sign(request: Any, **_: Any) -> None:
        request.headers[RACER] = name

    client.meta.events.register("before-send.s3", sign)
    return client


class Race:
    """Two racers `a` and `b`, each time under a new prefix of the bucket."""

    def __init__(self, server: ObjectStore, proxy: Proxy, kind: str) -> None:
        self.proxy, self.kind, self.bucket = proxy, kind, new_bucket(server)
        self.clients = {name: signing(client_of(server, proxy.endpoint), name) for name in "ab"}
        self.prefixes = itertools.count()

    def run(self, hold_a: int = NEVER, hold_b: int = NEVER) -> tuple[dict[str, Track], str]:
        """Run a until it is held, b until it is held or done, then a and b to their ends; return the problem or ""."""
        staged = Store(self.bucket.client, self.bucket.bucket, f"race{next(self.prefixes)}")
        works = {name: stage(staged, f"run-{name}", week(0)) for name in "ab"}
        tracks = {"a": Track(hold_a), "b": Track(hold_b)}

        def publish(name: str, work: Work) -> AdapterVersion:
            store = Store(self.clients[name], staged.bucket, staged.prefix)
            return work.publish(Registry(store, settle_seconds=0))

        with self.proxy.under(Gates(self.kind, tracks)), ThreadPoolExecutor(2) as pool:
            runs = {}
            for name in "ab":
                runs[name] = pool.submit(publish, name, works[name])
                until_held(tracks[name], runs[name])
            for name in "ab":
                tracks[name].free.set()
                wait(runs[name])
        return tracks, problem_of(staged, runs)


def until_held(track: Track, run: Any) -> None:
    while not track.held.wait(0.002) and not run.done():
        pass


def wait(run: Any) -> None:
    run.exception(timeout=PATIENCE)


def problem_of(store: Store, runs: dict[str, Any]) -> str:
    """The problem of the bucket after a race; "" if it holds one complete version per racer."""
    for name, run in runs.items():
        if error := run.exception():
            return f"{name}: {type(error).__name__}: {error}"
    versions = Registry(store).versions()
    if sorted(version.run_key for version in versions) != [f"run-{name}" for name in runs]:
        return f"published: {[(version.version, version.run_key) for version in versions]}"
    if {version.version for version in versions} != {run.result().version for run in runs.values()}:
        return "a racer got another number than it published"
    return "; ".join(map(str, audit(store, Registry(store))))


SLOW = pytest.mark.stack


@pytest.mark.parametrize("kind", [pytest.param(ATOMIC, marks=SLOW), RACY, pytest.param(NONE, marks=SLOW)])
def test_two_runs_publish_two_versions_if_one_pauses_at_any_request(moto: ObjectStore, proxy: Proxy, kind: str) -> None:
    race = Race(moto, proxy, kind)
    tracks, problem = race.run()
    assert not problem
    points = tracks["a"].count
    assert points > 10
    found = {hold: race.run(hold)[1] for hold in range(1, points + 1)}
    assert not any(found.values()), found


@SLOW
def test_two_runs_publish_two_versions_if_both_pause(moto: ObjectStore, proxy: Proxy) -> None:
    """a is paused before it writes its claim, or before it lists the claims, while b advances to any of its requests;
    then a ends, then b. All other pairs of pauses are sampled."""
    race = Race(moto, proxy, RACY)
    requests = race.run()[0]["a"].requests
    claim = next(at for at, request in enumerate(requests, 1) if request.startswith("PUT") and "/claim-" in request)
    pairs = [(a, b) for a in range(1, len(requests) + 1) for b in range(1, len(requests) + 4)]
    chosen = [(a, b) for a, b in pairs if a == claim or (a == claim + 1 and abs(a - b) < 4)]
    found = {pair: race.run(*pair)[1] for pair in [*chosen, *random.Random(5).sample(pairs, 6)]}  # noqa: S311
    assert not any(found.values()), found


PROCESSES, ROUNDS = 3, 3


def racing(server: ObjectStore, bucket: str, works: list[Work], start: Any) -> None:
    """One process: it publishes one run per round, starting together with the others."""
    for number, work in enumerate(works):
        store = Store(client_of(server), bucket, f"round{number}")
        start.wait(PATIENCE)
        work.publish(Registry(store, settle_seconds=0))


@pytest.mark.parametrize("kind", [pytest.param("swift", marks=SLOW), "moto"])
def test_concurrent_processes_publish_versions_with_different_numbers(
    request: pytest.FixtureRequest, kind: str
) -> None:
    server: ObjectStore = request.getfixturevalue(kind)
    bucket = new_bucket(server)
    rounds = [Store(bucket.client, bucket.bucket, f"round{number}") for number in range(ROUNDS)]
    works = [[stage(store, f"run{racer}", week(0)) for store in rounds] for racer in range(PROCESSES)]
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(PROCESSES)
    processes = [spawn.Process(target=racing, args=(server, bucket.bucket, own, start)) for own in works]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(2 * PATIENCE)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
    finally:
        for process in processes:
            process.kill()
    for store in rounds:
        versions = Registry(store).versions()
        assert sorted(version.run_key for version in versions) == ["run0", "run1", "run2"]
        assert audit(store, Registry(store)) == []
