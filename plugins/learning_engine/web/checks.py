"""The blocking health checks. Each sends one cheap request to a component. Called by health."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from learning_engine.records.contracts import AdapterVersion, Window
from learning_engine.serving.client import Replica
from learning_engine.steps import placement
from learning_engine.steps.resources import Resources

Kind = Literal["database", "store", "replica", "gpu_workers", "scheduler", "next_parent", "ledger"]
# Long enough for any healthy server.
TIMEOUT_SECONDS = 5.0
PARENT_CACHE_SECONDS = 300.0
# By bucket and version: when its archive was last read, and the result.
_parent_cache: dict[tuple[str, str | None], tuple[float, "Finding"]] = {}


@dataclass(frozen=True)
class Finding:
    """The result of a check. `reason` says why a component is not up, and what to do."""

    state: Literal["up", "degraded", "down", "unknown"]
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


Part = tuple[str, Kind, Callable[[], Finding]]


def list_parts(resources: Resources) -> list[Part]:
    """Name, kind and check of each component, one per replica."""
    return [
        ("feedback database", "database", partial(database, resources)),
        ("store", "store", partial(store, resources)),
        ("next parent", "next_parent", partial(next_parent, resources)),
        ("ledger", "ledger", partial(ledger, resources)),
        ("gpu workers", "gpu_workers", partial(gpu_workers, resources)),
        *_replicas(resources),
    ]


def database(resources: Resources) -> Finding:
    """Reads one microsecond of feedback, which tests the connection, the table and its columns."""
    from learning_engine.feedback import source

    now = datetime.now(UTC)
    feedback = resources.settings.feedback.model_copy(update={"timeout_seconds": TIMEOUT_SECONDS})
    for _ in source.read(resources.open_feedback(), Window(now - timedelta(microseconds=1), now), feedback):
        pass
    return Finding("up", detail={"source": feedback.source, "table": f"{feedback.db_schema}.{feedback.table}"})


def store(resources: Resources) -> Finding:
    """Lists the bucket and reads the pointer."""
    next(resources.store.list(), None)
    live = resources.ledger.newest()
    return Finding("up", detail={"bucket": resources.store.bucket, "live": live.version if live else None})


def next_parent(resources: Resources) -> Finding:
    """Whether the next run can read its parent. This reads the whole archive, so the result is cached."""
    settings, now = resources.settings, datetime.now(UTC)
    wanted = resources.registry.parent_for(
        Window(now, now + timedelta(seconds=1)),
        base_model=settings.model.base,
        base_revision=settings.model.revision,
        lora=resources.shape,
    )
    key = (resources.store.uri(""), wanted.version if wanted else None)
    at, found = _parent_cache.get(key, (float("-inf"), Finding("unknown")))
    if time.monotonic() - at > PARENT_CACHE_SECONDS:
        found = _check_parent(resources, wanted)
        _parent_cache.clear()
        _parent_cache[key] = time.monotonic(), found
    return found


def _check_parent(resources: Resources, wanted: AdapterVersion | None) -> Finding:
    parent, passed_over = resources.registry.continuable(wanted)
    detail = {"version": parent.version if parent else None, "passed_over": passed_over}
    if passed_over:
        lost, instead = ", ".join(passed_over), parent.version if parent else "the base model"
        return Finding(
            "degraded", f"the archive of {lost} is missing or corrupt: the next run continues {instead} instead", detail
        )
    return Finding("up", detail=detail)


def ledger(resources: Resources) -> Finding:
    """Whether every ledger entry can be read, and the pointer agrees with the newest one."""
    problems = resources.ledger.problems()
    reason = "; ".join(f"{key}: {problem}" for key, problem in problems.items())
    return Finding("degraded" if problems else "up", reason or None, {"problems": len(problems)})


def gpu_workers(resources: Resources) -> Finding:
    """Whether a worker serves the training queue. Only the Celery executor can be asked."""
    from airflow.configuration import conf

    executors, queue = conf.get("core", "executor"), resources.settings.dag.train_queue
    if "Celery" not in executors:
        return Finding("unknown", f"{executors} cannot list its workers", {"executor": executors})
    from airflow.providers.celery.executors.celery_executor_utils import app

    queues = app.control.inspect(timeout=TIMEOUT_SECONDS / 2).active_queues() or {}
    names = sorted(name for name, taken in queues.items() if any(one["name"] == queue for one in taken))
    detail = {"queue": queue, "workers": names}
    if not names:
        return Finding("down", f"no Celery worker serves the queue {queue}: start one with -q {queue}", detail)
    return Finding("up", detail=detail)


def replica(resources: Resources, server: Replica) -> Finding:
    """Whether the replica answers and has loaded the live adapter."""
    listed = server.models()
    live = resources.ledger.newest()
    wanted = live.adapter_name if live and live.version else None
    detail = {"base": listed[0] if listed else None, "adapters": listed[1:], "live": wanted}
    if wanted is not None and wanted not in listed:
        return Finding("degraded", f"it has not loaded {wanted}: the reconcile DAG will load it", detail)
    return Finding("up", detail=detail)


def _replicas(resources: Resources) -> Iterator[Part]:
    quick = {"connect_timeout_seconds": TIMEOUT_SECONDS, "request_timeout_seconds": TIMEOUT_SECONDS}
    try:
        servers = placement.replicas(resources)
    except Exception as error:  # noqa: BLE001 - a missing Airflow connection raises its own exception type
        yield "model server", "replica", partial(Finding, "down", str(error))
        return
    for server in servers:
        quick_server = Replica(server.url, server.serving.model_copy(update=quick))
        yield str(server), "replica", partial(replica, resources, quick_server)
