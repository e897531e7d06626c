"""Runs of the weekly DAG: which are under way and how far, how the last ones ended."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Depends, Query
from pydantic import AfterValidator, Field

from learning_engine.errors import IntegrityError
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import Dataset, TrainingProgress
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.web.airflow_api import AirflowApi, OpenAirflow
from learning_engine.web.answers import TaskState, TrainingRun, TrainingStatus
from learning_engine.web.auth import SeesRuns, reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.concurrency import Turns
from learning_engine.web.problems import responses
from learning_engine.web.threads import STORE, Router

ENDED = ("success", "failed")
# In the order in which a run goes through them.
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
TASK_ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")

# The runs that have ended, for all who may see everything of a run; the last KEPT that were asked for.
KEPT = 200
_ended: dict[tuple[str, ...], TrainingRun] = {}
# Of many who ask for the same at once, one asks Airflow.
ASKING = Turns(1)

T = TypeVar("T")

router = Router(prefix="/training", tags=["training"], dependencies=[Depends(reader)], responses=responses(401, 503))


def _one_segment(run_id: str) -> str:
    # In a path httpx takes dots for steps upwards, and Airflow a slash for another of its routes.
    if not run_id.strip(".") or "/" in run_id:
        raise ValueError(
            "expected the id of a run, found one that no run has: leave run_id out, and the runs are listed"
        )
    return run_id


RunId = Annotated[str, Field(max_length=250), AfterValidator(_one_segment)]


@router.get("/status", responses=responses(404, 422))
async def training_status(
    airflow: OpenAirflow,
    backend: OpenBackend,
    sees_runs: SeesRuns,
    recent: Annotated[int, Query(ge=0, le=50, description="How many runs that have ended.")] = 5,
    run_id: Annotated[RunId | None, Query(description="Only this run.")] = None,
) -> TrainingStatus:
    """The active runs, the one whose turn it is first, and the last that have ended, newest first."""
    dag_id = backend.dag_id("weekly")
    if run_id is not None:
        found = [await airflow.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")]
    else:
        active = {"state": ["running", "queued"], "order_by": "run_after", "limit": 50}
        ended = {"state": ENDED, "order_by": "-end_date", "limit": recent}
        found = (await _runs(airflow, dag_id, active)) + (await _runs(airflow, dag_id, ended) if recent else [])
    runs = await asyncio.gather(*(_run(airflow, backend, run, kept=sees_runs) for run in found))
    current = sorted((run for run in runs if run.state not in ENDED), key=_turn)
    return TrainingStatus(current=current, recent=[run for run in runs if run.state in ENDED])


async def _runs(airflow: AirflowApi, dag_id: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    found = await airflow.find(f"dags/{dag_id}/dagRuns", params=params)
    return list(found["dag_runs"]) if found else []


async def _run(airflow: AirflowApi, backend: Backend, run: dict[str, Any], *, kept: bool) -> TrainingRun:
    """What Airflow tells of a run, asked once where it has ended; one that is cleared ends at another time."""
    if not kept or run["state"] not in ENDED:
        return await _ask(airflow, backend, run)
    key = (run["dag_id"], run["dag_run_id"], run["state"], run["end_date"])
    if key not in _ended:
        async with ASKING():
            if key not in _ended:
                found = await _ask(airflow, backend, run)
                while len(_ended) >= KEPT:
                    _ended.pop(next(iter(_ended)))
                _ended[key] = found
    return _ended[key].model_copy(update={"note": run.get("note")})


async def _ask(airflow: AirflowApi, backend: Backend, run: dict[str, Any]) -> TrainingRun:
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
    listed, extracted, published, verdict = await asyncio.gather(
        airflow.find(path, params={"limit": 100}),
        airflow.find(f"{path}/extract/xcomEntries/return_value"),
        airflow.find(f"{path}/publish/xcomEntries/return_value"),
        airflow.find(f"{path}/accepted/xcomEntries/verdict"),
    )
    tasks = _tasks(listed)
    dataset = _told(extracted, Dataset.from_json)
    running = run["state"] not in ENDED and dataset is not None
    progress = await STORE.run(_progress, backend, dataset.run_key) if running and dataset else None
    return TrainingRun(
        dag_id=dag_id,
        run_id=run_id,
        run_type=run["run_type"],
        state=run["state"],
        triggered_by=run.get("triggering_user_name"),
        window=dataset.window if dataset else None,
        queued_at=run["queued_at"],
        started_at=run["start_date"],
        ended_at=run["end_date"],
        task=next((task.task for task in tasks if task.state not in TASK_ENDED), None),
        tasks=tasks,
        progress=progress,
        version=_told(published, lambda value: str(value["version"])),
        verdict=_told(verdict, lambda value: str(value["why"])) or await _too_few(airflow, path, tasks),
        note=run.get("note"),
        airflow=airflow.page(dag_id, run_id),
    )


async def _too_few(airflow: AirflowApi, path: str, tasks: list[TaskState]) -> str | None:
    """What the count gate said where the run ended at it."""
    if not any(task.task == "fisher" and task.state == "skipped" for task in tasks):
        return None
    counted = await airflow.find(f"{path}/enough/xcomEntries/verdict")
    return _told(counted, lambda value: f"{value['samples']} rows, {value['needed']} are needed")


def _told(xcom: dict[str, Any] | None, read: Callable[[dict[str, Any]], T]) -> T | None:
    """What `read` makes of an XCom's value; None without one, and of one that this version's tasks did not write."""
    value = xcom["value"] if xcom else None
    try:
        return read(value) if isinstance(value, dict) else None
    except (RecordError, KeyError):
        return None


def _tasks(listed: dict[str, Any] | None) -> list[TaskState]:
    order = {name: place for place, name in enumerate(TASKS)}
    states = [
        TaskState(task=task["task_id"], state=task["state"], seconds=task["duration"], tries=task["try_number"])
        for task in (listed or {}).get("task_instances", ())
    ]
    return sorted(states, key=lambda state: order.get(state.task, len(order)))


def _progress(backend: Backend, run_key: str) -> TrainingProgress | None:
    """None before the training's first report, and where it cannot be read."""
    try:
        return backend.resources().store.get_record(manifest.run_key(run_key, manifest.PROGRESS), TrainingProgress)
    except (NotFound, IntegrityError):
        return None


def _turn(run: TrainingRun) -> tuple[bool, str]:
    """Those that have a window go by it; the others have not begun."""
    return (run.window is None, run.window.end.isoformat() if run.window else run.run_id)
