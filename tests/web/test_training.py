"""Training status: each caller sees only what they may see, and unknown XComs are tolerated."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from learning_engine.web import airflow_api, training
from tests.web.conftest import Site

ROOT = "/learning-engine"
DAG = "/api/v2/dags/learning_engine_weekly"
INSTANCES = "/dagRuns/{run_id}/taskInstances"


@dataclass
class Airflow:
    """A fake of Airflow's REST API with one ended run, whose XComs the callers in `denied` may not read.

    `asked` counts the requests for its task instances, each of which takes `task_seconds`.
    """

    xcoms: dict[str, Any]
    denied: set[str] = field(default_factory=set)
    seconds: float = 0.0
    task_seconds: float = 0.0
    skipped: str | None = None
    asked: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get(DAG + "/dagRuns/{run_id}")
        def run(run_id: str) -> dict[str, Any]:
            times = dict.fromkeys(("queued_at", "start_date", "end_date"), "2026-10-12T02:00:00Z")
            return {
                "dag_id": "learning_engine_weekly",
                "dag_run_id": run_id,
                "run_type": "manual",
                "state": "success",
                **times,
            }

        @app.get(DAG + "/dagRuns")
        async def runs(state: str) -> dict[str, Any]:
            await asyncio.sleep(self.seconds)
            return {"dag_runs": [run("one")] if state == "success" else []}

        @app.get(DAG + INSTANCES)
        async def tasks() -> dict[str, Any]:
            self.asked += 1
            await asyncio.sleep(self.task_seconds)
            states = {"publish": "success"} | ({self.skipped: "skipped"} if self.skipped else {})
            instances = [
                {"task_id": task, "state": state, "duration": 1.0, "try_number": 1} for task, state in states.items()
            ]
            return {"task_instances": instances}

        @app.get(DAG + INSTANCES + "/{task}/xcomEntries/{key}")
        def xcom(request: Request, task: str) -> dict[str, Any]:
            if request.headers["authorization"] in self.denied:
                raise HTTPException(403)
            if task not in self.xcoms:
                raise HTTPException(404)
            return {"value": self.xcoms[task]}

        return app


@pytest.fixture
def fake_airflow(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    dataset = site.loop.resources.registry.get("v1.1").dataset
    found = Airflow(
        {"extract": dataset.to_json(), "publish": {"version": "v1.1"}, "accepted": {"why": "it passed"}},
    )
    site.client().get(f"{ROOT}/live")
    (mount,) = [route for route in site.app.routes if getattr(route, "path", "") == ROOT]
    monkeypatch.setitem(mount.app._app.state._state, "airflow", found.app())
    training._ended_runs.clear()
    yield found
    training._ended_runs.clear()


def reported_run(client: TestClient) -> dict[str, Any]:
    answer = client.get(f"{ROOT}/training/status", params={"run_id": "one"})
    assert answer.status_code == 200, answer.text
    (run,) = answer.json()["recent"]
    found: dict[str, Any] = run
    return found


def window_version_verdict(client: TestClient) -> tuple[Any, ...]:
    run = reported_run(client)
    return run["window"] and run["window"]["start"][:10], run["version"], run["verdict"]


def test_the_cache_does_not_leak_between_callers(
    site: Site, fake_airflow: Airflow, admin: TestClient, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
):
    def without_xcoms(manager: Any, *, user: Any, access_entity: Any = None, **asked: Any) -> bool:
        if access_entity is DagAccessEntity.XCOM and user.get_name() == "viewer":
            return False
        return allows(manager, user=user, access_entity=access_entity, **asked)

    allows = SimpleAuthManager.is_authorized_dag
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", without_xcoms)
    fake_airflow.denied.add(viewer.headers["Authorization"])
    start = f"{site.loop.resources.registry.get('v1.1').dataset.window.start:%Y-%m-%d}"
    everything, nothing = (start, "v1.1", "it passed"), (None, None, None)
    assert [window_version_verdict(viewer), window_version_verdict(admin), window_version_verdict(viewer)] == [
        nothing,
        everything,
        nothing,
    ]
    training._ended_runs.clear()
    assert [window_version_verdict(admin), window_version_verdict(viewer), window_version_verdict(admin)] == [
        everything,
        nothing,
        everything,
    ]


def test_an_ended_run_is_requested_once(fake_airflow: Airflow, admin: TestClient, viewer: TestClient):
    before = window_version_verdict(viewer)
    fake_airflow.xcoms.clear()
    assert window_version_verdict(viewer) == window_version_verdict(admin) == before
    assert fake_airflow.asked == 1


def test_concurrent_requests_call_airflow_once(site: Site, fake_airflow: Airflow):
    fake_airflow.task_seconds = 0.3
    token = site.client("viewer").headers["Authorization"]

    async def ask_together() -> list[httpx.Response]:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://airflow.test", headers={"Authorization": token}
        ) as client:
            return await asyncio.gather(*(client.get(f"{ROOT}/training/status?run_id=one") for _ in range(8)))

    answers = asyncio.run(ask_together())
    assert [answer.json()["recent"][0]["version"] for answer in answers] == ["v1.1"] * 8
    assert fake_airflow.asked == 1


@pytest.mark.parametrize(
    "other", ["s3://xcoms/1.json", None, 17, ["v1.1"], {}, {"record": "Dataset", "schema": 0}], ids=repr
)
def test_an_xcom_of_unknown_format_is_ignored(fake_airflow: Airflow, viewer: TestClient, other: Any):
    fake_airflow.xcoms |= dict.fromkeys(("extract", "publish", "accepted", "enough"), other)
    fake_airflow.skipped = "fisher"
    assert window_version_verdict(viewer) == (None, None, None)
    assert viewer.get(f"{ROOT}/preflight").status_code == 200


def test_the_count_gates_verdict_is_reported(fake_airflow: Airflow, viewer: TestClient):
    fake_airflow.xcoms = {"enough": {"samples": 3, "needed": 10}}
    fake_airflow.skipped = "fisher"
    assert window_version_verdict(viewer) == (None, None, "3 rows, 10 are needed")


def test_what_tokenization_left_is_reported_if_the_count_gate_passed(fake_airflow: Airflow, viewer: TestClient):
    fake_airflow.xcoms = {"enough": {"passed": True, "why": "plenty"}, "fisher": {"passed": False, "why": "0 rows"}}
    fake_airflow.skipped = "fisher"
    assert window_version_verdict(viewer) == (None, None, "0 rows")
    training._ended_runs.clear()
    fake_airflow.xcoms["enough"] = {"passed": False, "why": "3 rows"}
    assert window_version_verdict(viewer) == (None, None, "3 rows")


def test_a_hanging_airflow_route_times_out(fake_airflow: Airflow, viewer: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(airflow_api, "TIMEOUT_SECONDS", 0.2)
    fake_airflow.seconds = 30
    answer = viewer.get(f"{ROOT}/training/status")
    assert answer.status_code == 504
    assert "within 0.2 s" in answer.json()["detail"]


@pytest.mark.parametrize("run_id", ["", ".", "..", "one/taskInstances"])
def test_a_run_id_that_changes_the_path_is_rejected(fake_airflow: Airflow, viewer: TestClient, run_id: str):
    answer = viewer.get(f"{ROOT}/training/status", params={"run_id": run_id})
    assert answer.status_code == 422, answer.text
    assert "expected a run id" in answer.json()["detail"]
