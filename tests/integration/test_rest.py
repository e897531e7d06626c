"""The REST API on the complete stack: it trains, reports progress, and answers many readers.

test_command_line deploys and rolls back by it.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import requests

from tests.integration.conftest import Live, until
from tests.integration.test_decisions import DAG, add_feedback_window

pytestmark = pytest.mark.timeout(600)


def api(live: Live, method: str, path: str, *, seconds: float = 60, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {live.rest.token()}"}
    url = f"{live.airflow.url}/learning-engine/{path}"
    return requests.request(method, url, headers=headers, timeout=seconds, **options)


def ended_run(live: Live, run_id: str) -> dict[str, Any]:
    """Wait for the end of the run; return it as the API reports it."""

    def recent() -> list[dict[str, Any]]:
        answer = api(live, "GET", "training/status", params={"run_id": run_id})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["recent"])

    (run,) = until(f"{run_id} to end", recent)
    return dict(run)


def test_every_part_is_up(live: Live):
    answer = api(live, "GET", "health")
    states = {check["name"]: (check["state"], check["reason"]) for check in answer.json()["checks"]}
    # The state of workers is unknown, since LocalExecutor has none.
    assert {state for state, _ in states.values()} <= {"up", "unknown"}, states
    assert (answer.status_code, answer.json()["state"]) == (200, "up")


def test_a_training_run_is_started_watched_and_listed(live: Live):
    window = add_feedback_window(live, "by the api", count=40, subject=21)
    live.rest.unpause(DAG)
    asked = {"start": window["window_start"], "end": window["window_end"]}
    preflight = api(live, "GET", "preflight", params=asked).json()
    assert (preflight["rows"], preflight["count_gate"]["passed"]) == (40, True)

    # Enough epochs that the test can observe the training.
    accepted = api(live, "POST", "train", json={"window": asked, "epochs": 60, "deploy": "never", "note": "by the api"})
    assert accepted.status_code == 202, accepted.text
    run_id = accepted.json()["run_id"]

    def progress() -> Any:
        (run,) = api(live, "GET", "training/status", params={"run_id": run_id}).json()["current"]
        return run["progress"]

    seen = until("progress of the training", progress, pause=0.2)
    assert 0 < seen["step"] <= seen["of"]
    assert seen["curve"][-1][0] == seen["step"]
    run = ended_run(live, run_id)
    assert (run["state"], run["triggered_by"], run["note"]) == ("success", "admin", "by the api")
    assert "never" in run["verdict"]
    newest = api(live, "GET", "adapters", params={"limit": 1}).json()["items"][0]
    assert (newest["version"], newest["rows"]) == (run["version"], 40)


def test_fifty_concurrent_readers_all_get_an_answer(live: Live):
    """Each request makes several calls to Airflow in process; without a concurrency limit they would deadlock."""

    def status(_: int) -> int:
        return api(live, "GET", "training/status", params={"recent": 3}, seconds=240).status_code

    with ThreadPoolExecutor(50) as readers:
        assert set(readers.map(status, range(50))) == {200}


def test_the_api_server_reports_step_durations_and_does_not_load_torch(live: Live):
    text = api(live, "GET", "metrics").text
    for task in ("extract", "fisher", "train", "evaluate", "publish"):
        assert f'step="{task}"' in text
    (server,) = [running.leader() for running in live.stack.running() if running.name == "api-server"]
    for process in (server, *server.children(recursive=True)):
        assert not [lib.path for lib in process.memory_maps() if "libtorch" in lib.path]
    assert isinstance(server, psutil.Process)
