"""A stub of the REST API on loopback: real HTTP, responses validated by the API's models."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from time import sleep
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.middleware.base import RequestResponseEndpoint

from demo.ports import free_port
from learning_engine.records.contracts import AdapterVersion
from learning_engine.web import request_models, response_models, training_models
from tests.cli import samples
from tests.cli.stub import ORDINARY, Stub, problem

PASSWORDS = {"admin": "open sesame", "viewer": "just looking"}
REFUSALS = {
    401: ("Unauthorized", "Expected a login, found none."),
    403: ("Forbidden", "Expected the right to act, found none."),
    404: ("Not Found", "Expected it, found none."),
}


def _next(states: list[Any]) -> Any:
    return states.pop(0) if len(states) > 1 else states[0]


def _stub(request: Request) -> Stub:
    return request.app.state.stub


def _reader(request: Request) -> str:
    name = request.headers.get("authorization", "").removeprefix("Bearer token-of-")
    if name not in PASSWORDS or name in _stub(request).expired:
        raise HTTPException(401)
    return name


def _actor(name: Annotated[str, Depends(_reader)]) -> None:
    if name != "admin":
        raise HTTPException(403)


Now = Annotated[Stub, Depends(_stub)]
api = APIRouter(prefix="/learning-engine", dependencies=[Depends(_reader)])
acts = APIRouter(prefix="/learning-engine", dependencies=[Depends(_actor)])
airflow = APIRouter()


@api.get("/health")
def health(stub: Now, response: Response) -> response_models.Health:
    response.status_code = 503 if stub.health.state == "down" else 200
    return stub.health


@api.get("/live")
def live(stub: Now) -> response_models.Live:
    first = stub.ledger[0] if stub.ledger else None
    version, since = (first.version, first.at) if first else (None, None)
    return response_models.Live(model=version or "tiny", version=version, base_model="tiny", since=since, proven=True)


@api.get("/me")
def me(name: Annotated[str, Depends(_reader)]) -> response_models.Me:
    allowed = name == "admin"
    return response_models.Me(name=name, may=response_models.May(train=allowed, fisher=allowed, deploy=allowed))


@api.get("/metrics")
def metrics() -> PlainTextResponse:
    return PlainTextResponse(samples.METRICS)


@api.get("/storage")
def storage() -> response_models.Storage:
    return samples.STORAGE


@api.get("/preflight")
def preflight(stub: Now, start: datetime | None = None, end: datetime | None = None) -> training_models.Preflight:
    return stub.preflight


@api.get("/adapters")
def list_adapters(
    stub: Now, limit: int = 20, offset: int = 0, accepted: bool | None = None, revoked: bool | None = None
) -> response_models.AdapterPage:
    listed = [samples.summary(each, live=each.version == "v1.1") for each in reversed(stub.versions)]
    found = [each for each in listed if accepted in (None, each.accepted) and revoked in (None, each.revoked)]
    items = found[offset : offset + limit]
    return response_models.AdapterPage(total=len(found), limit=limit, offset=offset, items=items, unreadable=["v0.9"])


@api.get("/adapters/{version}")
def show_adapter(stub: Now, version: str) -> response_models.AdapterDetail:
    return samples.detail(_find(stub, version))


@api.get("/adapters/{version}/archive")
def archive(stub: Now, version: str) -> Response:
    _find(stub, version)
    return Response(stub.archive, headers={"X-Checksum-Sha256": stub.promised}, media_type="application/gzip")


@api.get("/deployments")
def deployments(stub: Now, limit: int = 20, offset: int = 0) -> response_models.DeploymentPage:
    items = list(stub.ledger[offset : offset + limit])
    target = stub.ledger[0].previous if stub.ledger else None
    return response_models.DeploymentPage(
        total=len(stub.ledger),
        limit=limit,
        offset=offset,
        items=items,
        rollback_target=target,
        unreadable=list(stub.damaged),
    )


@api.get("/deployments/at")
def deployments_at(stub: Now, time: datetime) -> response_models.DeploymentAt:
    found = next((each for each in stub.ledger if each.at <= time), None)
    return response_models.DeploymentAt(time=time, version=found.version if found else None, deployment=found)


@api.get("/training/status")
def status(stub: Now, run_id: str | None = None, recent: int = 5) -> training_models.TrainingStatus:
    if run_id is not None and run_id not in stub.trainings:
        raise HTTPException(404)
    runs = [_next(states) for name, states in stub.trainings.items() if run_id in (None, name)]
    ended = [run for run in runs if run.state in ("success", "failed")]
    return training_models.TrainingStatus(current=[run for run in runs if run not in ended], recent=ended)


@acts.post("/train", status_code=202)
def train(stub: Now, body: request_models.TrainBody) -> response_models.RunAccepted:
    stub.trainings.setdefault(samples.LONG_RUN, samples.run_states())
    return _accepted("weekly", samples.LONG_RUN)


@acts.post("/fisher/calculate", status_code=202)
def fisher(body: request_models.FisherBody) -> response_models.RunAccepted:
    return _accepted("fisher", samples.FISHER_RUN)


@acts.post("/adapters/{version}/deploy", status_code=202)
def deploy(stub: Now, version: str, body: request_models.DeployBody) -> response_models.RunAccepted:
    _find(stub, version)
    return _accepted("deploy", "manual__d1")


@acts.post("/rollback", status_code=202)
def rollback(body: request_models.RollbackBody) -> response_models.RunAccepted:
    return _accepted("deploy", "manual__r1")


@airflow.post("/auth/token", status_code=201)
def token(body: dict[str, str]) -> Any:
    """Airflow's errors are not problem+json."""
    if PASSWORDS.get(body["username"]) != body["password"]:
        return JSONResponse({"detail": "Invalid credentials"}, 401)
    return {"access_token": f"token-of-{body['username']}"}


@airflow.get("/api/v2/dags/{dag_id}/dagRuns/{run_id}", dependencies=[Depends(_reader)])
def dag_run(stub: Now, dag_id: str, run_id: str) -> dict[str, Any]:
    return {"dag_id": dag_id, "dag_run_id": run_id, "state": _next(stub.dag_runs[run_id])}


@airflow.get("/{path:path}")
def page(path: str) -> HTMLResponse:
    """Airflow's response to an unknown address."""
    return HTMLResponse("<!doctype html><title>Airflow</title>")


def _find(stub: Stub, version: str) -> AdapterVersion:
    for each in stub.versions:
        if each.version == version:
            return each
    raise HTTPException(404)


def _accepted(dag: str, run_id: str) -> response_models.RunAccepted:
    return response_models.RunAccepted(
        dag_id=f"learning_engine_{dag}",
        run_id=run_id,
        state="queued",
        status=f"/learning-engine/training/status?run_id={run_id}",
        airflow=f"/dags/learning_engine_{dag}/runs/{run_id}",
    )


async def _front(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Record the request, and send a replacement response if the test set one."""
    stub, body = _stub(request), await request.body()
    question = {"method": request.method, "path": request.url.path, "query": dict(request.query_params)}
    stub.asked.append(question | {"body": json.loads(body) if body else None, "headers": dict(request.headers)})
    states = stub.instead.get(f"{request.method} {request.url.path}")
    answer = states.pop(0) if states else None
    return answer if answer and answer is not ORDINARY else await call_next(request)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, detail = REFUSALS[error.status_code]
    return problem(error.status_code, detail, title)


def build() -> FastAPI:
    """The stub app; `app.state.stub` belongs to the running test."""
    app = FastAPI()
    app.middleware("http")(_front)
    app.exception_handler(HTTPException)(_refused)
    for router in (api, acts, airflow):
        app.include_router(router)
    return app


@contextmanager
def serving() -> Iterator[tuple[str, FastAPI]]:
    """Run the server in a thread; yields its address and app."""
    port, app = free_port(), build()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", app
    finally:
        server.should_exit = True
        thread.join(20)
