"""Whether the parts are up: each with its state, its latency, and why it is not."""

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
from learning_engine.web.answers import Check, Health
from learning_engine.web.auth import reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.checks import Finding, Kind, Part
from learning_engine.web.flights import Flight
from learning_engine.web.problems import Refused, responses
from learning_engine.web.threads import Router

# A part that has not answered by then counts as down, whatever its own time-outs are.
SECONDS = 15
# Whoever asks while the parts are being looked at is told what is found then: a thousand who ask at once do not make
# the parts late that they ask about. Nothing in it depends on who asks.
FLIGHT: Flight[Health] = Flight()
# Without one of these no week can be learned; without all replicas nobody is served.
VITAL = ("database", "store", "scheduler")

# The check that each part was last asked by; whoever asks before it has answered waits for it, too, so that one that
# takes long, such as reading an archive, goes on once however often it is asked for.
_asked: dict[str, Future[Any]] = {}
_asking = threading.Lock()

T = TypeVar("T")
logger = logging.getLogger("learning_engine")
router = Router(tags=["health"], dependencies=[Depends(reader)], responses=responses(401))


@router.get("/health", responses={503: {"model": Health, "description": "A part that everything needs is down."}})
async def health(airflow: OpenAirflow, backend: OpenBackend, response: Response) -> Health:
    """Database, store, every replica of the model server, scheduler, GPU workers, and what the next run continues."""
    answer = await FLIGHT.join(partial(_look, airflow, backend))
    response.status_code = 503 if answer.state == "down" else 200
    return answer


async def _look(airflow: AirflowApi, backend: Backend) -> Health:
    blocking = await _shared("connections", partial(_blocking, backend))
    found = await asyncio.gather(
        *(_timed(name, kind, partial(_shared, name, check)) for name, kind, check in blocking),
        _timed("scheduler", "scheduler", lambda: _scheduler(airflow)),
    )
    return Health(state=overall(found), checks=found)


def overall(found: list[Check]) -> Literal["up", "degraded", "down"]:
    """`down` where a vital part or every replica is; `degraded` where anything else is not up."""
    replicas = [check.state for check in found if check.kind == "replica"]
    if any(check.state == "down" and check.kind in VITAL for check in found):
        return "down"
    if replicas and all(state == "down" for state in replicas):
        return "down"
    return "up" if all(check.state in ("up", "unknown") for check in found) else "degraded"


def _blocking(backend: Backend) -> list[Part]:
    """Without the connections nothing but that can be told: it is the store that is opened with them."""
    try:
        return checks.of(backend.resources())
    except Exception as error:  # noqa: BLE001 - whatever keeps the connections from being read is what is to be told
        return [("store", "store", partial(_down, "store", error))]


async def _shared(name: str, check: Callable[[], T]) -> T:
    with _asking:
        asked = _asked.get(name)
        if asked is None or asked.done():
            asked = _asked[name] = Future()
            threading.Thread(target=_answer, args=(asked, check), daemon=True).start()
    return await asyncio.shield(asyncio.wrap_future(asked))


def _answer(asked: Future[T], check: Callable[[], T]) -> None:
    try:
        asked.set_result(check())
    except Exception as error:  # noqa: BLE001 - raised again where it is waited for
        asked.set_exception(error)


async def _timed(name: str, kind: Kind, ask: Callable[[], Any]) -> Check:
    began = time.monotonic()
    try:
        finding = await asyncio.wait_for(ask(), SECONDS)
    except TimeoutError:
        finding = Finding("down", f"no answer within {SECONDS} s")
    except Exception as error:  # noqa: BLE001 - one part that fails in a way of its own leaves the others to be told
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
    logger.warning("health of the %s", name, exc_info=error)
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
    reason = f"no heartbeat of the {', '.join(late)}: see whether it runs"
    return Finding("down" if "scheduler" in late else "degraded", reason, states)
