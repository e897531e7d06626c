"""Actions: who may start them, what is rejected up front, and which DAG run each becomes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from learning_engine.plugin import LearningEnginePlugin
from tests.web.conftest import Site

ROOT = "/learning-engine"
WINDOW = {"start": "2026-10-05T02:00:00Z", "end": "2026-10-12T02:00:00Z"}
ACTIONS: dict[str, dict[str, Any]] = {
    "train": {"window": WINDOW},
    "fisher/calculate": {"version": "v1.0"},
    "adapters/v1.0/deploy": {},
    "rollback": {},
}


@pytest.fixture(autouse=True)
def unpaused_dags(admin: TestClient) -> None:
    for name in ("weekly", "fisher", "deploy"):
        assert admin.patch(f"/api/v2/dags/learning_engine_{name}", json={"is_paused": False}).status_code == 200


def runs(admin: TestClient) -> int:
    return int(admin.get("/api/v2/dags/~/dagRuns").json()["total_entries"])


@pytest.mark.parametrize(("path", "body"), ACTIONS.items())
def test_anonymous_actions_are_rejected(anonymous: TestClient, admin: TestClient, path: str, body: dict[str, Any]):
    before = runs(admin)
    assert anonymous.post(f"{ROOT}/{path}", json=body).status_code == 401
    assert runs(admin) == before


@pytest.mark.parametrize(("path", "body"), ACTIONS.items())
def test_actions_of_a_viewer_are_rejected(viewer: TestClient, admin: TestClient, path: str, body: dict[str, Any]):
    before = runs(admin)
    answer = viewer.post(f"{ROOT}/{path}", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert "permission to start runs of learning_engine_" in answer.json()["detail"]
    assert runs(admin) == before


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://elsewhere.test"}],
)
@pytest.mark.parametrize(("path", "body"), ACTIONS.items())
def test_requests_from_another_site_are_rejected(
    admin: TestClient, path: str, body: dict[str, Any], headers: dict[str, str]
):
    before = runs(admin)
    answer = admin.post(f"{ROOT}/{path}", json=body, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.json()["detail"]
    assert runs(admin) == before


def test_a_form_post_is_rejected(admin: TestClient):
    assert admin.post(f"{ROOT}/train", data={"force": "none"}).status_code == 422


@pytest.mark.parametrize(("path", "body"), ACTIONS.items())
def test_an_action_starts_a_dag_run_in_the_name_of_the_caller(admin: TestClient, path: str, body: dict[str, Any]):
    accepted = admin.post(
        f"{ROOT}/{path}", json={**body, "note": "as agreed"}, headers={"Origin": "http://airflow.test"}
    )
    assert accepted.status_code == 202, accepted.text
    found = accepted.json()
    run = admin.get(f"/api/v2/dags/{found['dag_id']}/dagRuns/{found['run_id']}").json()
    assert (run["triggering_user_name"], run["note"], run["state"]) == ("admin", "as agreed", "queued")
    assert found["airflow"] == f"/dags/{found['dag_id']}/runs/{found['run_id']}"
    log = admin.get("/api/v2/eventLogs", params={"dag_id": found["dag_id"], "order_by": "-when"}).json()["event_logs"]
    assert [(entry["event"], entry["owner"]) for entry in log[:1]] == [("trigger_dag_run", "admin")]


def test_train_passes_its_body_as_the_conf_of_the_run(admin: TestClient):
    body = {"window": WINDOW, "ewc_lambda": 50, "deploy": "never", "force": "count"}
    found = admin.post(f"{ROOT}/train", json=body).json()
    run = admin.get(f"/api/v2/dags/{found['dag_id']}/dagRuns/{found['run_id']}").json()
    window = {"window_start": "2026-10-05T02:00:00+00:00", "window_end": "2026-10-12T02:00:00+00:00"}
    assert run["conf"] == {**window, "ewc_lambda": 50, "deploy": "never", "force": "count"}
    status = admin.get(found["status"]).json()
    assert [one["run_id"] for one in status["current"]] == [found["run_id"]]


def test_rollback_and_deploy_pass_action_and_version_as_conf(admin: TestClient):
    for path, body, conf in (
        ("rollback", {}, {"action": "rollback", "version": "v1.1"}),
        ("rollback", {"version": "v1.1"}, {"action": "rollback", "version": "v1.1"}),
        ("adapters/v1.0/deploy", {}, {"action": "deploy", "version": "v1.0"}),
    ):
        found = admin.post(f"{ROOT}/{path}", json=body).json()
        assert admin.get(f"/api/v2/dags/{found['dag_id']}/dagRuns/{found['run_id']}").json()["conf"] == conf


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("train", {"window": {"start": WINDOW["end"], "end": WINDOW["start"]}}, "start before end"),
        ("train", {"window": {"start": "2026-10-05T02:00:00", "end": WINDOW["end"]}}, "timezone"),
        ("train", {"window": {"start": WINDOW["start"]}}, "window.end"),
        ("train", {"epochs": 0}, "epochs"),
        ("train", {"ewc_lambda": -1}, "ewc_lambda"),
        ("train", {"learning_rate": "fast"}, "learning_rate"),
        ("train", {"force": "everything"}, "force"),
        ("train", {"lora_rank": 8}, "lora_rank"),
        ("train", {"note": "x" * 501}, "note"),
        ("fisher/calculate", {}, "version"),
        ("fisher/calculate", {"version": "latest"}, "version"),
        ("adapters/..%2f..%2fv1.0/deploy", {}, None),
        ("adapters/v1.00/deploy", {}, "version"),
        ("rollback", {"version": "latest"}, "version"),
    ],
)
def test_invalid_requests_start_no_run(admin: TestClient, path: str, body: dict[str, Any], why: str | None):
    before = runs(admin)
    answer = admin.post(f"{ROOT}/{path}", json=body)
    assert answer.status_code in ((422,) if why else (404, 422))
    assert (why or "") in answer.json()["detail"]
    assert runs(admin) == before


def test_a_window_that_has_not_ended_is_rejected(admin: TestClient):
    end = datetime.now(UTC) + timedelta(hours=1)
    body = {"window": {"start": WINDOW["start"], "end": end.isoformat()}}
    answer = admin.post(f"{ROOT}/train", json=body)
    assert answer.status_code == 422
    assert "a window that has ended" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["adapters/v7.7/deploy", "fisher/calculate"])
def test_an_unknown_version_starts_no_run(admin: TestClient, path: str):
    before = runs(admin)
    answer = admin.post(f"{ROOT}/{path}", json={"version": "v7.7"} if path.startswith("fisher") else {})
    assert (answer.status_code, runs(admin)) == (404, before)
    assert "no v7.7" in answer.json()["detail"]


def test_a_paused_dag_is_reported_and_starts_no_run(admin: TestClient):
    admin.patch("/api/v2/dags/learning_engine_weekly", json={"is_paused": True})
    before = runs(admin)
    answer = admin.post(f"{ROOT}/train", json={})
    assert (answer.status_code, runs(admin)) == (409, before)
    assert "unpause it" in answer.json()["detail"]


def test_rollback_without_an_earlier_deployment_is_rejected(admin: TestClient, site: Site, use_prefix):
    use_prefix("empty")
    before = runs(admin)
    answer = admin.post(f"{ROOT}/rollback")
    assert (answer.status_code, runs(admin)) == (409, before)


def test_rollback_of_a_version_that_is_not_live_is_rejected(admin: TestClient):
    before = runs(admin)
    answer = admin.post(f"{ROOT}/rollback", json={"version": "v1.0"})
    assert (answer.status_code, runs(admin)) == (409, before)
    assert "Expected v1.0, which the rollback replaces, to be live, found v1.1" in answer.json()["detail"]


def test_me_names_user_and_permissions(admin: TestClient, viewer: TestClient):
    assert admin.get(f"{ROOT}/me").json() == {
        "name": "admin",
        "may": dict.fromkeys(("train", "fisher", "deploy"), True),
    }
    assert viewer.get(f"{ROOT}/me").json()["may"] == dict.fromkeys(("train", "fisher", "deploy"), False)


def test_links_include_the_proxys_path_prefix(site: Site, admin: TestClient):
    behind = TestClient(site.app, base_url="http://airflow.test", root_path="/airflow", headers=admin.headers)
    accepted = behind.post("/airflow/learning-engine/train", json={})
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["airflow"].startswith("/airflow/dags/learning_engine_weekly/runs/")
    assert accepted.json()["status"].startswith("/airflow/learning-engine/training/status?")
    (run,) = behind.get(accepted.json()["status"]).json()["current"]
    assert run["run_id"] == accepted.json()["run_id"]
    servers = behind.get("/airflow/learning-engine/openapi.json").json()["servers"]
    assert servers == [{"url": "/airflow/learning-engine"}]
    # Airflow's UI resolves it against its own address.
    assert {view["href"] for view in LearningEnginePlugin.external_views} == {"learning-engine/page/"}
