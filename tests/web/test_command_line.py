"""The CLI against Airflow's own api-server over HTTP: every command can read its response."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest
import uvicorn
from fastapi.testclient import TestClient

from demo.ports import free_port
from learning_engine.cli import exit_codes, login
from tests.cli.conftest import Done, Run, runner
from tests.steps.conftest import week
from tests.web.conftest import TOKEN, Site

DAGS = ("weekly", "fisher", "deploy")
WINDOW = ("--start", week(1).start.isoformat(), "--end", week(1).end.isoformat())
READING = [
    ("live",),
    ("storage",),
    ("status",),
    ("preflight", *WINDOW),
    ("deployments",),
    ("deployments", "--at", "2000-01-01"),
    ("adapters", "list"),
    *(("adapters", "show", f"v1.{number}") for number in range(3)),
]


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    port = free_port()
    options = uvicorn.Config(site.app, host="127.0.0.1", port=port, lifespan="off", log_level="error")
    server = uvicorn.Server(options)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def run(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command without a terminal, as the user who logged in last."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_PROXY", "*")
    return runner(capsys, monkeypatch)


def log_in(run: Run, url: str, user: str) -> Done:
    return run("login", "--url", url, "--user", user, "--password-stdin", stdin=f"{user}'s password\n")


@pytest.fixture
def cli(run: Run, url: str) -> Run:
    done = log_in(run, url, "admin")
    assert done.code == exit_codes.DONE, done.err
    return run


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_read_command_prints_its_response(cli: Run, words: tuple[str, ...]):
    shown = cli(*words)
    assert shown.code == exit_codes.DONE, shown.err
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    assert "None" not in shown.out
    assert cli(*words, "--json").json


def test_health_and_metrics_are_printed(cli: Run):
    shown = cli("health")
    assert {"store", "up"} <= set(shown.out.split())
    state = cli("health", "--json").json["state"]
    assert shown.code == (exit_codes.FAILED if state == "down" else exit_codes.DONE)
    assert "# TYPE learning_engine_" in cli("metrics").out
    assert any(sample["name"].startswith("learning_engine_") for sample in cli("metrics", "--json").json)


def test_permissions_of_admin_and_viewer(run: Run, url: str, admin: TestClient):
    assert log_in(run, url, "admin").err.endswith("as admin; may read, train, fisher, deploy.\n")
    assert log_in(run, url, "viewer").err.endswith("as viewer; may read.\n")
    assert run("live").code == exit_codes.DONE
    for words in (("train",), ("fisher", "v1.0"), ("rollback", "--yes"), ("adapters", "deploy", "v1.0", "--yes")):
        assert run(*words).code == exit_codes.FORBIDDEN
    wrong = run("login", "--url", url, "--user", "admin", "--password-stdin", stdin="wrong\n")
    assert wrong.code == exit_codes.NO_ACCESS
    assert "rejected this user name and password" in wrong.err
    login.write(login.Login(url, "no token at all"))
    assert run("adapters", "list").code == exit_codes.NO_ACCESS


def test_the_static_token_reads_live_and_metrics_only(run: Run, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.URL, url)
    monkeypatch.setenv(login.TOKEN, TOKEN)
    assert run("live").code == run("metrics").code == exit_codes.DONE
    assert run("adapters", "list").code == exit_codes.NO_ACCESS


def test_an_archive_is_downloaded_completely(cli: Run, site: Site, tmp_path: Path):
    file = tmp_path / "adapter.tar.gz"
    assert cli("adapters", "download", "v1.1", "-o", str(file)).code == exit_codes.DONE
    assert hashlib.sha256(file.read_bytes()).hexdigest() == site.loop.resources.registry.get("v1.1").sha256


def test_an_action_starts_a_run_that_can_be_waited_for(cli: Run, admin: TestClient):
    for name in DAGS:
        admin.patch(f"/api/v2/dags/learning_engine_{name}", json={"is_paused": False})
    run_id = cli("train", *WINDOW, "--note", "by the command line", "--json").json["run_id"]
    assert "by the command line" in cli("status", "--run", run_id).out
    # No scheduler runs here, so started runs stay queued.
    for words in (("fisher", "v1.0"), ("adapters", "deploy", "v1.0", "-y"), ("rollback", "-y"), ("train", *WINDOW)):
        waited = cli(*words, "--wait", "--timeout", "0")
        assert (waited.code, waited.out) == (exit_codes.FAILED, "")
        assert "found it queued. The run continues." in waited.err


def test_rejected_commands_give_the_reason(cli: Run, admin: TestClient):
    admin.patch("/api/v2/dags/learning_engine_weekly", json={"is_paused": True})
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for words, code, why in (
        (("train",), exit_codes.REFUSED, "paused"),
        (("train", "--epochs", "-1"), exit_codes.REFUSED, "epochs"),
        (("preflight", "--start", "2026-01-01", "--end", later), exit_codes.REFUSED, "an end in the past"),
        (("adapters", "show", "v9.9"), exit_codes.NOT_FOUND, "v9.9"),
        (("adapters", "download", "v9.9"), exit_codes.NOT_FOUND, "v9.9"),
        (("adapters", "deploy", "v9.9", "--yes"), exit_codes.NOT_FOUND, "v9.9"),
        (("fisher", "v9.9"), exit_codes.NOT_FOUND, "v9.9"),
        (("status", "--run", "nothing"), exit_codes.NOT_FOUND, "nothing"),
    ):
        done = cli(*words)
        assert (done.code, done.out) == (code, ""), (words, done)
        assert why in done.err, (words, done.err)


def test_an_address_without_learning_engine_is_reported(cli: Run, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.TOKEN, (login.read() or login.Login("", "")).token)
    done = cli("live", "--url", f"{url}/elsewhere")
    assert done.code == exit_codes.NO_ACCESS
    assert "found a web page" in done.err
