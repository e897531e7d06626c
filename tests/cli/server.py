"""A server of the REST API's contract on loopback: real HTTP, answers that its own models have checked."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import sleep
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.middleware.base import RequestResponseEndpoint

from demo.ports import free_port
from learning_engine.records.contracts import AdapterVersion
from learning_engine.web import answers, bodies
from tests.cli import scene

PASSWORDS = {"admin": "open sesame", "viewer": "just looking"}
REFUSALS = {
    401: ("Unauthorized", "Expected a login, found none."),
    403: ("Forbidden", "Expected the right to act, found none."),
    404: ("Not Found", "Expected it, found none."),
}
# Among the answers that come instead of the ordinary one: the ordinary one.
ORDINARY = Response(status_code=204)


@dataclass
class Stage:
    """What the server answers with, and what it was asked. A test changes the first and reads the second."""

    url: str = ""
    health: answers.Health = field(default_factory=scene.health)
    preflight: answers.Preflight = field(default_factory=scene.preflight)
    # How each weekly run looks from one question to the next; the last look stays.
    trainings: dict[str, list[answers.TrainingRun]] = field(default_factory=dict)
    # States of the runs of other DAGs, the same way.
    dag_runs: dict[str, list[str]] = field(default_factory=dict)
    versions: tuple[Any, ...] = scene.VERSIONS
    ledger: tuple[Any, ...] = (scene.deployment("v1.1", "v1.0", 2), scene.deployment("v1.0", None, 1))
    damaged: tuple[str, ...] = ()
    archive: bytes = scene.ARCHIVE
    promised: str = scene.SHA256
    # By "METHOD path": answers that come instead of the ordinary one, each once.
    instead: dict[str, list[Response]] = field(default_factory=dict)
    # Names whose tokens no longer count.
    expired: set[str] = field(default_factory=set)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def asked_for(self, path: str) -> list[dict[str, Any]]:
        return [question for question in self.asked if question["path"] == path]


def problem(status: int, detail: str, title: str = "A problem", **more: Any) -> Response:
    body = answers.Problem(title=title, status=status, detail=detail, **more).model_dump_json()
    return Response(body, status, media_type="application/problem+json")


def _turn(looks: list[Any]) -> Any:
    return looks.pop(0) if len(looks) > 1 else looks[0]


def _stage(request: Request) -> Stage:
    return request.app.state.stage


def _reader(request: Request) -> str:
    name = request.headers.get("authorization", "").removeprefix("Bearer token-of-")
    if name not in PASSWORDS or name in _stage(request).expired:
        raise HTTPException(401)
    return name


def _actor(name: Annotated[str, Depends(_reader)]) -> None:
    if name != "admin":
        raise HTTPException(403)


Now = Annotated[Stage, Depends(_stage)]
api = APIRouter(prefix="/learning-engine", dependencies=[Depends(_reader)])
acts = APIRouter(prefix="/learning-engine", dependencies=[Depends(_actor)])
airflow = APIRouter()


@api.get("/health")
def health(stage: Now, response: Response) -> answers.Health:
    response.status_code = 503 if stage.health.state == "down" else 200
    return stage.health


@api.get("/live")
def live(stage: Now) -> answers.Live:
    first = stage.ledger[0] if stage.ledger else None
    version, since = (first.version, first.at) if first else (None, None)
    return answers.Live(model=version or "tiny", version=version, base_model="tiny", since=since, proven=True)


@api.get("/me")
def me(name: Annotated[str, Depends(_reader)]) -> answers.Me:
    allowed = name == "admin"
    return answers.Me(name=name, may=answers.May(train=allowed, fisher=allowed, deploy=allowed))


@api.get("/metrics")
def metrics() -> PlainTextResponse:
    return PlainTextResponse(scene.METRICS)


@api.get("/storage")
def storage() -> answers.Storage:
    return scene.STORAGE


@api.get("/preflight")
def preflight(stage: Now, start: datetime | None = None, end: datetime | None = None) -> answers.Preflight:
    return stage.preflight


@api.get("/adapters")
def list_adapters(
    stage: Now, limit: int = 20, offset: int = 0, accepted: bool | None = None, revoked: bool | None = None
) -> answers.AdapterPage:
    listed = [scene.summary(each, live=each.version == "v1.1") for each in reversed(stage.versions)]
    found = [each for each in listed if accepted in (None, each.accepted) and revoked in (None, each.revoked)]
    items = found[offset : offset + limit]
    return answers.AdapterPage(total=len(found), limit=limit, offset=offset, items=items, unreadable=["v0.9"])


@api.get("/adapters/{version}")
def show_adapter(stage: Now, version: str) -> answers.AdapterDetail:
    return scene.detail(_find(stage, version))


@api.get("/adapters/{version}/archive")
def archive(stage: Now, version: str) -> Response:
    _find(stage, version)
    return Response(stage.archive, headers={"X-Checksum-Sha256": stage.promised}, media_type="application/gzip")


@api.get("/deployments")
def deployments(stage: Now, limit: int = 20, offset: int = 0) -> answers.DeploymentPage:
    items = list(stage.ledger[offset : offset + limit])
    target = stage.ledger[0].previous if stage.ledger else None
    return answers.DeploymentPage(
        total=len(stage.ledger),
        limit=limit,
        offset=offset,
        items=items,
        rollback_target=target,
        unreadable=list(stage.damaged),
    )


@api.get("/deployments/at")
def deployments_at(stage: Now, time: datetime) -> answers.DeploymentAt:
    found = next((each for each in stage.ledger if each.at <= time), None)
    return answers.DeploymentAt(time=time, version=found.version if found else None, deployment=found)


@api.get("/training/status")
def status(stage: Now, run_id: str | None = None, recent: int = 5) -> answers.TrainingStatus:
    if run_id is not None and run_id not in stage.trainings:
        raise HTTPException(404)
    runs = [_turn(looks) for name, looks in stage.trainings.items() if run_id in (None, name)]
    ended = [run for run in runs if run.state in ("success", "failed")]
    return answers.TrainingStatus(current=[run for run in runs if run not in ended], recent=ended)


@acts.post("/train", status_code=202)
def train(stage: Now, body: bodies.TrainBody) -> answers.RunAccepted:
    stage.trainings.setdefault(scene.LONG_RUN, scene.story())
    return _accepted("weekly", scene.LONG_RUN)


@acts.post("/fisher/calculate", status_code=202)
def fisher(body: bodies.FisherBody) -> answers.RunAccepted:
    return _accepted("fisher", scene.FISHER_RUN)


@acts.post("/adapters/{version}/deploy", status_code=202)
def deploy(stage: Now, version: str, body: bodies.DeployBody) -> answers.RunAccepted:
    _find(stage, version)
    return _accepted("deploy", "manual__d1")


@acts.post("/rollback", status_code=202)
def rollback(body: bodies.RollbackBody) -> answers.RunAccepted:
    return _accepted("deploy", "manual__r1")


@airflow.post("/auth/token", status_code=201)
def token(body: dict[str, str]) -> Any:
    """Airflow's errors are no problem+json."""
    if PASSWORDS.get(body["username"]) != body["password"]:
        return JSONResponse({"detail": "Invalid credentials"}, 401)
    return {"access_token": f"token-of-{body['username']}"}


@airflow.get("/api/v2/dags/{dag_id}/dagRuns/{run_id}", dependencies=[Depends(_reader)])
def dag_run(stage: Now, dag_id: str, run_id: str) -> dict[str, Any]:
    return {"dag_id": dag_id, "dag_run_id": run_id, "state": _turn(stage.dag_runs[run_id])}


@airflow.get("/{path:path}")
def page(path: str) -> HTMLResponse:
    """What Airflow answers at an address that it does not know."""
    return HTMLResponse("<!doctype html><title>Airflow</title>")


def _find(stage: Stage, version: str) -> AdapterVersion:
    for each in stage.versions:
        if each.version == version:
            return each
    raise HTTPException(404)


def _accepted(dag: str, run_id: str) -> answers.RunAccepted:
    return answers.RunAccepted(
        dag_id=f"learning_engine_{dag}",
        run_id=run_id,
        state="queued",
        status=f"/learning-engine/training/status?run_id={run_id}",
        airflow=f"/dags/learning_engine_{dag}/runs/{run_id}",
    )


async def _front(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Notes what is asked, and answers with what the test has put in the way."""
    stage, body = _stage(request), await request.body()
    question = {"method": request.method, "path": request.url.path, "query": dict(request.query_params)}
    stage.asked.append(question | {"body": json.loads(body) if body else None, "headers": dict(request.headers)})
    looks = stage.instead.get(f"{request.method} {request.url.path}")
    answer = looks.pop(0) if looks else None
    return answer if answer and answer is not ORDINARY else await call_next(request)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title, detail = REFUSALS[error.status_code]
    return problem(error.status_code, detail, title)


def build() -> FastAPI:
    """`app.state.stage` is the running test's."""
    app = FastAPI()
    app.middleware("http")(_front)
    app.exception_handler(HTTPException)(_refused)
    for router in (api, acts, airflow):
        app.include_router(router)
    return app


@contextmanager
def serving() -> Iterator[tuple[str, FastAPI]]:
    """The server's address and app, while it is up in a thread of its own."""
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
