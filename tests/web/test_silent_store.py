"""A store that accepts connections and never answers: Airflow's own routes still work, and so does /live."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from unittest import mock

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from demo.object_store import ObjectStore
from demo.ports import LOOPBACK
from learning_engine.registry.ledger import Ledger
from learning_engine.web import PREFIX, auth, backend, deployments, durations
from learning_engine.web.app import build
from learning_engine.web.lazy import LazyApp
from tests.faults.proxy import front, silent
from tests.object_stores import new_bucket
from tests.registry.work import deployment

TOKEN = "a static token of the tests"
# More than the threads of an event loop.
READERS = 45


@asynccontextmanager
async def airflow_with_store(endpoint: str, **store: str) -> AsyncIterator[httpx.AsyncClient]:
    """An app with a synchronous route, like Airflow's, in which ours is mounted with its store at `endpoint`."""
    app = FastAPI()
    app.mount(PREFIX, LazyApp())

    @app.get("/execution/health")
    def health() -> str:
        return "healthy"

    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "somebody", "password": "a secret", "extra": extra}
    environment = {
        "AIRFLOW_CONN_LEARNING_ENGINE_STORE": json.dumps(connection),
        "LEARNING_ENGINE__WEB__TOKEN": TOKEN,
        **{f"LEARNING_ENGINE__STORE__{name.upper()}": value for name, value in store.items()},
    }
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://airflow.test",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    # This app has no Airflow database.
    no_tasks = mock.patch.object(durations, "newest", return_value={})
    with mock.patch.dict(os.environ, environment), no_tasks:
        async with client:
            # The app is built at the first request; its time is not measured here.
            await client.get(f"{PREFIX}/page/")
            yield client


@asynccontextmanager
async def unresponsive_store() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The address of a store that never answers, and an event for its first request."""
    asked, connections = asyncio.Event(), list[asyncio.StreamWriter]()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        asked.set()

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("path", ["live", "metrics"])
def test_airflow_s_own_routes_answer_while_many_requests_wait_for_the_store(path: str):
    async def ask() -> str:
        async with unresponsive_store() as (endpoint, asked), airflow_with_store(endpoint) as client:
            waiting = [asyncio.create_task(client.get(f"{PREFIX}/{path}")) for _ in range(READERS)]
            await asked.wait()
            async with asyncio.timeout(1):
                answer: str = (await client.get("/execution/health")).json()
            assert not any(task.done() for task in waiting)
            assert to_thread.current_default_thread_limiter().borrowed_tokens == 0, "threads of Airflow in use"
            return answer

    assert asyncio.run(ask()) == "healthy"


def test_a_request_to_a_silent_store_soon_gets_503_with_retry_after(short_timeouts: None):
    async def ask() -> httpx.Response:
        async with unresponsive_store() as (endpoint, _), airflow_with_store(endpoint) as client:
            return await client.get(f"{PREFIX}/live")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "check that the store of the connection can be reached" in answer.json()["detail"]


def test_the_last_known_live_version_is_returned_with_its_age(moto: ObjectStore, short_timeouts: None):
    store, proxy = new_bucket(moto), front(moto.endpoint)
    entry = Ledger(store).record(deployment("v1.0", datetime(2026, 11, 1, tzinfo=UTC), "deploy", 0))

    async def ask() -> list[httpx.Response]:
        async with airflow_with_store(proxy.endpoint, bucket=store.bucket, prefix=store.prefix) as client:
            before = await client.get(f"{PREFIX}/live")
            with proxy.under(silent):
                meanwhile = await asyncio.gather(*(client.get(f"{PREFIX}/live") for _ in range(READERS)))
            # The pending request must time out before a new one is sent.
            async with asyncio.timeout(10):
                while (await client.get(f"{PREFIX}/live")).json()["age_seconds"]:
                    pass
            return [before, *meanwhile]

    with proxy.listening():
        before, *meanwhile = asyncio.run(ask())
    assert {answer.json()["model"] for answer in (before, *meanwhile)} == {entry.adapter_name}
    assert (before.json()["age_seconds"], before.headers["Age"]) == (0, "0")
    assert all(answer.json()["age_seconds"] > 0 for answer in meanwhile)


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short time-outs, so that the tests need not wait."""
    monkeypatch.setattr(deployments, "STORE_WAIT_SECONDS", 0.1)
    short = {"connect_timeout_seconds": 0.2, "read_timeout_seconds": 0.2, "attempts": 1}
    monkeypatch.setattr(backend, "STORE_LIMITS", short)


def test_a_task_waits_longer_for_the_store_than_the_api_server():
    assert backend.Backend().settings.store.read_timeout_seconds > backend.STORE_LIMITS["read_timeout_seconds"]


def test_only_the_permission_check_runs_in_airflow_s_threads():
    def synchronous(dependant: Dependant) -> Iterator[object]:
        if dependant.call is not None and not dependant.is_coroutine_callable:
            yield dependant.call
        for other in dependant.dependencies:
            yield from synchronous(other)

    app = build(None)
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 15
    assert {call for route in routes for call in synchronous(route.dependant)} == {auth.sees_runs}
