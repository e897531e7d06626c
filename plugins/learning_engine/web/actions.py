"""Routes that start work. Each action is a run of the DAG that carries it out."""

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from learning_engine.errors import RegistryError
from learning_engine.steps import deploy as deploy_step
from learning_engine.web.adapters import unknown_version
from learning_engine.web.airflow_api import AirflowApi, OpenAirflow
from learning_engine.web.auth import Actor, may_run, reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.problems import Refused, responses
from learning_engine.web.request_models import DeployBody, FisherBody, RollbackBody, TrainBody, Version, WindowBody
from learning_engine.web.response_models import May, Me, RunAccepted
from learning_engine.web.store_threads import STORE_THREADS, Router

router = Router(tags=["actions"], responses=responses(401, 403, 409, 422, 503))
# The settings that a run may override, and `force`.
PARAMS = ("min_samples", "ewc_lambda", "epochs", "learning_rate", "base_model", "deploy", "force")
DEFAULT_DEPLOY, DEFAULT_ROLLBACK = DeployBody(), RollbackBody()


@router.post("/train", status_code=202, dependencies=[Depends(Actor("weekly"))])
async def train(request: Request, airflow: OpenAirflow, backend: OpenBackend, body: TrainBody) -> RunAccepted:
    """Start a run of the weekly DAG over a window, optionally with settings for this run only."""
    conf = body.model_dump(include=set(PARAMS), exclude_none=True) | _window(body.window)
    return await _start(request, airflow, backend.dag_id("weekly"), conf, body.note)


@router.post("/fisher/calculate", status_code=202, dependencies=[Depends(Actor("fisher"))], responses=responses(404))
async def calculate_fisher(
    request: Request, airflow: OpenAirflow, backend: OpenBackend, body: FisherBody
) -> RunAccepted:
    """Recalculate a version's Fisher information."""
    await STORE_THREADS.run(_require_version, backend, body.version)
    conf = {"version": body.version} | _window(body.window)
    return await _start(request, airflow, backend.dag_id("fisher"), conf, body.note)


@router.post(
    "/adapters/{version}/deploy", status_code=202, dependencies=[Depends(Actor("deploy"))], responses=responses(404)
)
async def deploy(
    request: Request, airflow: OpenAirflow, backend: OpenBackend, version: Version, body: DeployBody = DEFAULT_DEPLOY
) -> RunAccepted:
    """Deploy a version, even one that the gate rejected."""
    await STORE_THREADS.run(_require_version, backend, version)
    conf = {"action": "deploy", "version": version}
    return await _start(request, airflow, backend.dag_id("deploy"), conf, body.note)


@router.post("/rollback", status_code=202, dependencies=[Depends(Actor("deploy"))])
async def rollback(
    request: Request, airflow: OpenAirflow, backend: OpenBackend, body: RollbackBody = DEFAULT_ROLLBACK
) -> RunAccepted:
    """Return to the previously live version and revoke the current one."""
    # The run's conf names the replaced version, so that a second queued rollback does not go back further.
    conf = {"action": "rollback", "version": await STORE_THREADS.run(_version_to_replace, backend, body.version)}
    return await _start(request, airflow, backend.dag_id("deploy"), conf, body.note)


@router.get("/me", tags=["me"])
async def me(request: Request, backend: OpenBackend, user: Annotated[Any, Depends(reader)]) -> Me:
    """The signed-in user, and the actions they may start."""
    names = ("weekly", "fisher", "deploy")
    may = {name: await run_in_threadpool(may_run, backend.dag_id(name), request, user) for name in names}
    return Me(name=user.get_name(), may=May(train=may["weekly"], fisher=may["fisher"], deploy=may["deploy"]))


def _require_version(backend: Backend, version: str) -> None:
    if version not in backend.resources().registry.numbers():
        raise unknown_version(version)


def _version_to_replace(backend: Backend, wanted: str | None) -> str | None:
    """The live version. Raises Refused if it is not `wanted`, or if there is nothing to roll back to."""
    resources = backend.resources()
    live = resources.ledger.newest()
    replaced = wanted or (live.version if live else None)
    try:
        deploy_step.choose(resources, action="rollback", version=replaced)
    except RegistryError as error:
        raise Refused(409, str(error)) from error
    return replaced


def _window(window: WindowBody | None) -> dict[str, str]:
    return {"window_start": window.start.isoformat(), "window_end": window.end.isoformat()} if window else {}


async def _start(
    request: Request, airflow: AirflowApi, dag_id: str, conf: dict[str, Any], note: str | None
) -> RunAccepted:
    dag = await airflow.call("GET", f"dags/{dag_id}")
    if dag["is_paused"]:
        raise Refused(409, f"Expected {dag_id} to be active, found it paused: unpause it in Airflow, then try again.")
    run = await airflow.call("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf, "note": note})
    run_id = run["dag_run_id"]
    return RunAccepted(
        dag_id=dag_id,
        run_id=run_id,
        state=run["state"],
        status=_status(request, airflow, dag_id, run_id),
        airflow=airflow.page(dag_id, run_id),
    )


def _status(request: Request, airflow: AirflowApi, dag_id: str, run_id: str) -> str:
    """The address of the run's status: this API for a weekly run, Airflow's API for the others."""
    if dag_id == request.app.state.backend.dag_id("weekly"):
        return f"{request.scope['root_path']}/training/status?{urlencode({'run_id': run_id})}"
    return f"{airflow.root}/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
