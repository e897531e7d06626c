"""`GET /health`: the state and latency of each component, and why it is not up."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import Depends, Response

from learning_engine.errors import LearningEngineError
from learning_engine.web import checks
from learning_engine.web.airflow_api import AirflowApi, OpenAirflow
from learning_engine.web.auth import reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.checks import Finding, Kind, Part
from learning_engine.web.problems import Refused, responses
from learning_engine.web.response_models import Check, Health
from learning_engine.web.single_flight import SingleFlight
from learning_engine.web.store_threads import Router

# A component that takes longer counts as down, even if its own time-outs are longer.
TIMEOUT_SECONDS = 15
# Concurrent requests share one round of checks, so that many callers do not slow down the components they ask about.
# The answer does not depend on the caller.
SINGLE_FLIGHT: SingleFlight[Health] = SingleFlight()
# Without any one of these nothing can be trained. `overall` handles the replicas.
VITAL = ("database", "store", "scheduler")

# The latest check of each component. Callers wait for a check that is still running instead of starting another one, so
# that a slow check, such as reading an archive, runs only once at a time.
_running_checks: dict[str, Future[Any]] = {}
_checks_lock = threading.Lock()

T = TypeVar("T")
logger = logging.getLogger("learning_engine")
router = Router(tags=["health"], dependencies=[Depends(reader)], responses=responses(401))


@router.get(
    "/health",
    responses={503: {"model": Health, "description": "A component that training or serving depends on is down."}},
)
async def health(airflow: OpenAirflow, backend: OpenBackend, response: Response) -> Health:
    """State of the database, store, model server replicas, scheduler, GPU workers and the next run's parent."""
    answer = await SINGLE_FLIGHT.join(partial(_check_all, airflow, backend))
    response.status_code = 503 if answer.state == "down" else 200
    return answer


async def _check_all(airflow: AirflowApi, backend: Backend) -> Health:
    try:
        blocking = await asyncio.wait_for(_run_once("connections", partial(_blocking_parts, backend)), TIMEOUT_SECONDS)
    except TimeoutError:
        late = Finding("down", f"Airflow's connections could not be read within {TIMEOUT_SECONDS} s")
        blocking = [("store", "store", lambda: late)]
    found = await asyncio.gather(
        *(_timed(name, kind, partial(_run_once, name, check)) for name, kind, check in blocking),
        _timed("scheduler", "scheduler", lambda: _scheduler(airflow)),
    )
    return Health(state=overall(found), checks=found)


def overall(found: list[Check]) -> Literal["up", "degraded", "down"]:
    """`down` if a vital component or every replica is down; `degraded` if anything else is not up."""
    replicas = [check.state for check in found if check.kind == "replica"]
    if any(check.state == "down" and check.kind in VITAL for check in found):
        return "down"
    if replicas and all(state == "down" for state in replicas):
        return "down"
    return "up" if all(check.state in ("up", "unknown") for check in found) else "degraded"


def _blocking_parts(backend: Backend) -> list[Part]:
    """The blocking checks. If the connections cannot be read, only a store that is down."""
    try:
        return checks.list_parts(backend.resources())
    except Exception as error:  # noqa: BLE001 - any reason why the connections cannot be read is reported
        return [("store", "store", partial(_down, "store", error))]


async def _run_once(name: str, check: Callable[[], T]) -> T:
    with _checks_lock:
        future = _running_checks.get(name)
        if future is None or future.done():
            future = _running_checks[name] = Future()
            threading.Thread(target=_run_check, args=(future, check), daemon=True).start()
    return await asyncio.shield(asyncio.wrap_future(future))


def _run_check(future: Future[T], check: Callable[[], T]) -> None:
    try:
        future.set_result(check())
    except Exception as error:  # noqa: BLE001 - raised again in the waiting caller
        future.set_exception(error)


async def _timed(name: str, kind: Kind, ask: Callable[[], Any]) -> Check:
    began = time.monotonic()
    try:
        finding = await asyncio.wait_for(ask(), TIMEOUT_SECONDS)
    except TimeoutError:
        finding = Finding("down", f"no answer within {TIMEOUT_SECONDS} s")
    except Exception as error:  # noqa: BLE001 - an unexpected failure of one component must not hide the others
        finding = _down(name, error)
    return Check(
        name=name,
        kind=kind,
        state=finding.state,
        latency_ms=round((time.monotonic() - began) * 1000, 1),
        reason=finding.reason,
        detail=finding.detail,
    )


def _down(name: str, error: Exception) -> Finding:
    if isinstance(error, LearningEngineError):
        return Finding("down", str(error))
    logger.warning("health check failed: %s", name, exc_info=error)
    return Finding("down", f"{type(error).__name__}: see the api-server's log")


async def _scheduler(airflow: AirflowApi) -> Finding:
    try:
        report = await airflow.monitor()
    except Refused as refused:
        return Finding("unknown", refused.detail)
    states = {name: (report.get(name) or {}).get("status") for name in ("scheduler", "dag_processor", "triggerer")}
    late = [name for name, state in states.items() if state not in ("healthy", None)]
    if not late:
        return Finding("up", detail=states)
    reason = f"no heartbeat from the {', '.join(late)}: check that it is running"
    return Finding("down" if "scheduler" in late else "degraded", reason, states)
