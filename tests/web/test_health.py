"""GET /health: each component is really checked, and a fault is reported for that component only."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from learning_engine.registry import manifest
from learning_engine.web import airflow_api, checks, health
from learning_engine.web.airflow_api import AIRFLOW_LIMIT, MAX_CONCURRENT
from learning_engine.web.backend import Backend
from learning_engine.web.checks import Finding
from learning_engine.web.health import overall
from learning_engine.web.response_models import Check
from tests.web.conftest import Site

ROOT = "/learning-engine"


def parts(client: TestClient) -> dict[str, dict[str, Any]]:
    return {check["kind"]: check for check in client.get(f"{ROOT}/health").json()["checks"]}


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    checks._parent_cache.clear()


def test_each_component_has_state_and_latency(viewer: TestClient):
    answer = viewer.get(f"{ROOT}/health")
    found = parts(viewer)
    assert {kind: check["state"] for kind, check in found.items()} == {
        "database": "up",
        "store": "up",
        "replica": "up",
        "next_parent": "up",
        "ledger": "up",
        "gpu_workers": "unknown",  # LocalExecutor
        "scheduler": "down",  # none runs in these tests
    }
    assert (answer.status_code, answer.json()["state"]) == (503, "down")
    assert all(check["latency_ms"] > 0 for check in found.values())
    assert found["store"]["detail"]["live"] == "v1.1"
    assert found["next_parent"]["detail"] == {"version": "v1.1", "passed_over": []}


def test_a_missing_newest_ledger_entry_degrades_the_ledger(site: Site, viewer: TestClient):
    """The live version does not change, since the pointer names it too."""
    store = site.loop.resources.store
    key = max(stored.key for stored in store.list(manifest.LEDGER))
    before, whole = viewer.get(f"{ROOT}/live").json(), store.get_bytes(key)
    store.delete([key])
    try:
        found = parts(viewer)["ledger"]
        assert viewer.get(f"{ROOT}/live").json() == before
    finally:
        store.put_bytes(key, whole)
    assert (found["state"], found["detail"]) == ("degraded", {"problems": 1})
    assert found["reason"].startswith(f"{key}: missing")


def test_an_unreadable_parent_is_named_with_its_replacement(site: Site, viewer: TestClient):
    store = site.loop.resources.store
    key = manifest.adapter_key("v1.1", manifest.ARCHIVE)
    whole = store.get_bytes(key)
    try:
        store.put_bytes(key, whole[:-1])
        found = parts(viewer)["next_parent"]
    finally:
        store.put_bytes(key, whole)
    assert (found["state"], found["detail"]) == ("degraded", {"version": "v1.0", "passed_over": ["v1.1"]})
    assert found["reason"] == "the archive of v1.1 is missing or corrupt: the next run continues v1.0 instead"


def test_a_replica_without_the_live_adapter_is_degraded(site: Site, viewer: TestClient):
    live = site.loop.resources.ledger.current()
    assert live is not None
    replica = site.loop.replica
    replica.unload(live.adapter_name)
    try:
        found = parts(viewer)["replica"]
    finally:
        replica.load(live.adapter_name, str(site.adapters / live.adapter_name))
    assert (found["state"], found["detail"]["live"]) == ("degraded", live.adapter_name)
    assert live.adapter_name in found["reason"]


def test_a_missing_feedback_file_is_down(site: Site, viewer: TestClient):
    aside = site.loop.feedback.with_suffix(".aside")
    site.loop.feedback.rename(aside)
    try:
        found = parts(viewer)["database"]
    finally:
        aside.rename(site.loop.feedback)
    assert found["state"] == "down"
    assert "feedback.jsonl" in found["reason"]


def failing(*_: object) -> Any:
    raise ValueError("a secret password")


def test_unexpected_errors_are_logged_and_not_returned(
    viewer: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(checks, "database", failing)
    with caplog.at_level(logging.WARNING, "learning_engine"):
        found = parts(viewer)["database"]
    assert (found["state"], found["reason"]) == ("down", "ValueError: see the api-server's log")
    (logged,) = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ValueError]
    assert "database" in logged.getMessage()


def test_unreadable_connections_make_the_store_down(viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Backend, "resources", failing)
    answer = viewer.get(f"{ROOT}/health")
    assert (answer.status_code, answer.json()["state"]) == (503, "down")
    found = {check["kind"]: check["reason"] for check in answer.json()["checks"]}
    assert set(found) == {"store", "scheduler"}
    assert found["store"] == "ValueError: see the api-server's log"


def test_connections_that_cannot_be_read_in_time_make_the_store_down(
    viewer: TestClient, monkeypatch: pytest.MonkeyPatch
):
    answered = threading.Event()
    monkeypatch.setattr(Backend, "resources", lambda _: answered.wait(30))
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)
    try:
        assert parts(viewer)["store"]["reason"] == "Airflow's connections could not be read within 0.5 s"
    finally:
        answered.set()


def test_a_slow_check_runs_once_and_later_callers_wait_for_it(viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    begun, answered = list[int](), threading.Event()

    def slow(*_: object) -> Finding:
        begun.append(1)
        assert answered.wait(30)
        return Finding("up", detail={"version": "v1.1"})

    monkeypatch.setattr(checks, "_check_parent", slow)
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)
    try:
        assert [parts(viewer)["next_parent"]["reason"] for _ in range(3)] == ["no answer within 0.5 s"] * 3
    finally:
        answered.set()
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 15)
    assert parts(viewer)["next_parent"]["detail"] == {"version": "v1.1"}
    assert len(begun) == 1


def get_concurrently(site: Site, readers: int) -> list[httpx.Response]:
    """`readers` concurrent requests in one event loop whose slots for Airflow are all taken."""
    headers = {"Authorization": site.client("viewer").headers["Authorization"]}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(site.app)
        async with AsyncExitStack() as stack:
            client = httpx.AsyncClient(transport=transport, base_url="http://airflow.test", headers=headers)
            await stack.enter_async_context(client)
            for _ in range(MAX_CONCURRENT):
                await stack.enter_async_context(AIRFLOW_LIMIT())
            return await asyncio.gather(*(client.get(f"{ROOT}/health") for _ in range(readers)))

    return asyncio.run(ask())


def test_concurrent_requests_share_the_checks(site: Site, monkeypatch: pytest.MonkeyPatch):
    rounds, list_parts = list[int](), checks.list_parts

    def counted(*args: Any) -> Any:
        rounds.append(1)
        return list_parts(*args)

    monkeypatch.setattr(checks, "list_parts", counted)
    found = [answer.json()["checks"] for answer in get_concurrently(site, 30)]
    assert len(rounds) < 4, "concurrent requests share one round of checks"
    reasons = {check["reason"] for checks in found for check in checks if check["kind"] == "scheduler"}
    assert reasons == {"no heartbeat from the scheduler: check that it is running"}


def test_a_busy_airflow_makes_the_scheduler_unknown(site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(airflow_api, "MONITOR_SECONDS", 0)
    found = parts(viewer)["scheduler"]
    assert (found["state"], found["reason"].partition(":")[0]) == (
        "unknown",
        "Expected Airflow to answer GET monitor/health within 0 s, found no answer",
    )


def check(kind: Any, state: Any) -> Check:
    return Check(name=kind, kind=kind, state=state)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ([check("store", "up"), check("gpu_workers", "unknown")], "up"),
        ([check("store", "up"), check("next_parent", "degraded")], "degraded"),
        ([check("gpu_workers", "down"), check("store", "up")], "degraded"),
        ([check("store", "down"), check("replica", "up")], "down"),
        ([check("replica", "down"), check("replica", "up")], "degraded"),
        ([check("replica", "down"), check("replica", "down")], "down"),
    ],
)
def test_the_overall_state_follows_from_the_checks(found: list[Check], state: str):
    assert overall(found) == state


def test_an_empty_bucket_is_healthy(viewer: TestClient, use_prefix: Callable[[str], None]):
    use_prefix("empty")
    found = parts(viewer)
    assert (found["store"]["state"], found["next_parent"]["state"], found["replica"]["state"]) == ("up",) * 3
    assert found["ledger"]["state"] == "up"
