"""`GET /training/status`: the active runs of the weekly DAG with their progress, and the latest ended ones."""

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
from learning_engine.web.auth import SeesRuns, reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.concurrency import ConcurrencyLimit
from learning_engine.web.problems import responses
from learning_engine.web.store_threads import STORE_THREADS, Router
from learning_engine.web.training_models import TaskState, TrainingRun, TrainingStatus

ENDED = ("success", "failed")
# In the order in which a run executes them.
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

# Ended runs that were requested most recently, for users who may see all of a run.
CACHE_SIZE = 200
_ended_runs: dict[tuple[str, ...], TrainingRun] = {}
# Of several requests for the same ended run, only one calls Airflow.
LOOKUP_LIMIT = ConcurrencyLimit(1)

T = TypeVar("T")

router = Router(prefix="/training", tags=["training"], dependencies=[Depends(reader)], responses=responses(401, 503))


def _single_path_segment(run_id: str) -> str:
    # In a path, httpx resolves dots as parent segments, and a slash would select another route of Airflow.
    if not run_id.strip(".") or "/" in run_id:
        raise ValueError("expected a run id, found one that no run can have: omit run_id to list the runs")
    return run_id


RunId = Annotated[str, Field(max_length=250), AfterValidator(_single_path_segment)]


@router.get("/status", responses=responses(404, 422))
async def training_status(
    airflow: OpenAirflow,
    backend: OpenBackend,
    sees_runs: SeesRuns,
    recent: Annotated[int, Query(ge=0, le=50, description="Number of ended runs.")] = 5,
    run_id: Annotated[RunId | None, Query(description="Only this run.")] = None,
) -> TrainingStatus:
    """The active runs, in the order in which they will run, and the latest ended runs, newest first."""
    dag_id = backend.dag_id("weekly")
    if run_id is not None:
        found = [await airflow.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")]
    else:
        active = {"state": ["running", "queued"], "order_by": "run_after", "limit": 50}
        ended = {"state": ENDED, "order_by": "-end_date", "limit": recent}
        found = (await _runs(airflow, dag_id, active)) + (await _runs(airflow, dag_id, ended) if recent else [])
    runs = await asyncio.gather(*(_run(airflow, backend, run, use_cache=sees_runs) for run in found))
    current = sorted((run for run in runs if run.state not in ENDED), key=_queue_order)
    return TrainingStatus(current=current, recent=[run for run in runs if run.state in ENDED])


async def _runs(airflow: AirflowApi, dag_id: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    found = await airflow.find(f"dags/{dag_id}/dagRuns", params=params)
    return list(found["dag_runs"]) if found else []


async def _run(airflow: AirflowApi, backend: Backend, run: dict[str, Any], *, use_cache: bool) -> TrainingRun:
    """A run as Airflow reports it. Ended runs are cached by their end date, which changes when a run is cleared."""
    if not use_cache or run["state"] not in ENDED:
        return await _fetch_run(airflow, backend, run)
    key = (run["dag_id"], run["dag_run_id"], run["state"], run["end_date"])
    if key not in _ended_runs:
        async with LOOKUP_LIMIT():
            if key not in _ended_runs:
                found = await _fetch_run(airflow, backend, run)
                while len(_ended_runs) >= CACHE_SIZE:
                    _ended_runs.pop(next(iter(_ended_runs)))
                _ended_runs[key] = found
    return _ended_runs[key].model_copy(update={"note": run.get("note")})


async def _fetch_run(airflow: AirflowApi, backend: Backend, run: dict[str, Any]) -> TrainingRun:
    dag_id, run_id = run["dag_id"], run["dag_run_id"]
    path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
    listed, extracted, published, verdict = await asyncio.gather(
        airflow.find(path, params={"limit": 100}),
        airflow.find(f"{path}/extract/xcomEntries/return_value"),
        airflow.find(f"{path}/publish/xcomEntries/return_value"),
        airflow.find(f"{path}/accepted/xcomEntries/verdict"),
    )
    tasks = _tasks(listed)
    dataset = _parse_xcom(extracted, Dataset.from_json)
    running = run["state"] not in ENDED and dataset is not None
    progress = await STORE_THREADS.run(_progress, backend, dataset.run_key) if running and dataset else None
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
        version=_parse_xcom(published, lambda value: str(value["version"])),
        verdict=_parse_xcom(verdict, lambda value: str(value["why"])) or await _too_few(airflow, path, tasks),
        note=run.get("note"),
        airflow=airflow.page(dag_id, run_id),
    )


async def _too_few(airflow: AirflowApi, path: str, tasks: list[TaskState]) -> str | None:
    """Why the run ended before `fisher`: the verdict of `enough` or, if that passed, of `fisher` itself."""
    if not any(task.task == "fisher" and task.state == "skipped" for task in tasks):
        return None
    counted = await airflow.find(f"{path}/enough/xcomEntries/verdict")
    if _parse_xcom(counted, lambda value: value.get("passed")):
        counted = await airflow.find(f"{path}/fisher/xcomEntries/verdict")
    return _parse_xcom(
        counted, lambda value: value.get("why") or f"{value['samples']} rows, {value['needed']} are needed"
    )


def _parse_xcom(xcom: dict[str, Any] | None, read: Callable[[dict[str, Any]], T]) -> T | None:
    """`read` applied to an XCom's value; None if there is no XCom, or if it has an unknown format."""
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
    """None before the training's first report, and if the record cannot be read."""
    try:
        return backend.resources().store.get_record(manifest.run_key(run_key, manifest.PROGRESS), TrainingProgress)
    except (NotFound, IntegrityError):
        return None


def _queue_order(run: TrainingRun) -> tuple[bool, str]:
    """Runs with a window sort by its end; the others have not started, and come last."""
    return (run.window is None, run.window.end.isoformat() if run.window else run.run_id)
