"""Whether the parts are up: each with its state, its latency, and why it is not."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from learning_engine.errors import LearningEngineError
from learning_engine.web import checks
from learning_engine.web.airflow import AirflowApi, OpenAirflow
from learning_engine.web.answers import Check, Health
from learning_engine.web.auth import reader
from learning_engine.web.backend import OpenBackend
from learning_engine.web.checks import Finding, Kind
from learning_engine.web.problems import Refused, responses

# A part that has not answered by then counts as down, whatever its own time-outs are.
SECONDS = 15
# Without one of these no week can be learned; without all replicas nobody is served.
VITAL = ("database", "store", "scheduler")

router = APIRouter(tags=["health"], dependencies=[Depends(reader)], responses=responses(401))


@router.get("/health", responses={503: {"model": Health, "description": "A part that everything needs is down."}})
async def health(airflow: OpenAirflow, backend: OpenBackend, response: Response) -> Health:
    """Database, store, every replica of the model server, scheduler, GPU workers, and what the next run continues."""
    opened = await run_in_threadpool(backend.resources)
    blocking = await run_in_threadpool(checks.of, opened)
    found = await asyncio.gather(
        *(_timed(name, kind, _in_thread(check)) for name, kind, check in blocking),
        _timed("scheduler", "scheduler", lambda: _scheduler(airflow)),
    )
    answer = Health(state=overall(found), checks=found)
    response.status_code = 503 if answer.state == "down" else 200
    return answer


def overall(found: list[Check]) -> Literal["up", "degraded", "down"]:
    """`down` where a vital part or every replica is; `degraded` where anything else is not up."""
    replicas = [check.state for check in found if check.kind == "replica"]
    if any(check.state == "down" and check.kind in VITAL for check in found):
        return "down"
    if replicas and all(state == "down" for state in replicas):
        return "down"
    return "up" if all(check.state in ("up", "unknown") for check in found) else "degraded"


def _in_thread(check: Callable[[], Finding]) -> Callable[[], Any]:
    return lambda: run_in_threadpool(check)


async def _timed(name: str, kind: Kind, ask: Callable[[], Any]) -> Check:
    began = time.monotonic()
    try:
        finding = await asyncio.wait_for(ask(), SECONDS)
    except TimeoutError:
        finding = Finding("down", f"no answer within {SECONDS} s")
    except LearningEngineError as error:
        finding = Finding("down", str(error))
    except Exception as error:  # noqa: BLE001 - one part that fails in a way of its own leaves the others to be told
        finding = Finding("down", f"{type(error).__name__}: see the api-server's log")
    return Check(
        name=name,
        kind=kind,
        state=finding.state,
        latency_ms=round((time.monotonic() - began) * 1000, 1),
        reason=finding.reason,
        detail=finding.detail,
    )


async def _scheduler(airflow: AirflowApi) -> Finding:
    try:
        report = await airflow.call("GET", "monitor/health")
    except Refused as refused:
        return Finding("unknown", refused.detail)
    states = {name: (report.get(name) or {}).get("status") for name in ("scheduler", "dag_processor", "triggerer")}
    late = [name for name, state in states.items() if state not in ("healthy", None)]
    if not late:
        return Finding("up", detail=states)
    reason = f"no heartbeat of the {', '.join(late)}: see whether it runs"
    return Finding("down" if "scheduler" in late else "degraded", reason, states)
