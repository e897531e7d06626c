"""The command line against Airflow's own api-server over HTTP: every command has an answer that it can read."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest
import uvicorn
from fastapi.testclient import TestClient

from demo.ports import free_port
from learning_engine.cli import codes, login, main
from tests.cli.conftest import Done
from tests.steps.conftest import week
from tests.web.conftest import TOKEN, Site

Run = Callable[..., Done]
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
    """Runs a command with no terminal, as whoever has logged in last."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_PROXY", "*")

    def command(*words: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(words)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return command


def log_in(run: Run, url: str, user: str) -> Done:
    return run("login", "--url", url, "--user", user, "--password-stdin", stdin=f"{user}'s password\n")


@pytest.fixture
def cli(run: Run, url: str) -> Run:
    done = log_in(run, url, "admin")
    assert done.code == codes.DONE, done.err
    return run


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_every_answer_is_read(cli: Run, words: tuple[str, ...]):
    shown = cli(*words)
    assert shown.code == codes.DONE, shown.err
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    assert "None" not in shown.out
    assert cli(*words, "--json").json


def test_health_and_metrics(cli: Run):
    shown = cli("health")
    assert {"store", "up"} <= set(shown.out.split())
    state = cli("health", "--json").json["state"]
    assert shown.code == (codes.FAILED if state == "down" else codes.DONE)
    assert "# TYPE learning_engine_" in cli("metrics").out
    assert any(sample["name"].startswith("learning_engine_") for sample in cli("metrics", "--json").json)


def test_who_may_do_what(run: Run, url: str, admin: TestClient):
    assert log_in(run, url, "admin").err.endswith("as admin; may look, train, fisher, deploy.\n")
    assert log_in(run, url, "viewer").err.endswith("as viewer; may look.\n")
    assert run("live").code == codes.DONE
    for words in (("train",), ("fisher", "v1.0"), ("rollback", "--yes"), ("adapters", "deploy", "v1.0", "--yes")):
        assert run(*words).code == codes.FORBIDDEN
    wrong = run("login", "--url", url, "--user", "admin", "--password-stdin", stdin="wrong\n")
    assert wrong.code == codes.NO_ACCESS
    assert "does not know this name with this password" in wrong.err
    login.write(login.Login(url, "no token at all"))
    assert run("adapters", "list").code == codes.NO_ACCESS


def test_applications_have_a_token_of_their_own(run: Run, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.URL, url)
    monkeypatch.setenv(login.TOKEN, TOKEN)
    assert run("live").code == run("metrics").code == codes.DONE
    assert run("adapters", "list").code == codes.NO_ACCESS


def test_an_archive_comes_whole(cli: Run, site: Site, tmp_path: Path):
    file = tmp_path / "adapter.tar.gz"
    assert cli("adapters", "download", "v1.1", "-o", str(file)).code == codes.DONE
    assert hashlib.sha256(file.read_bytes()).hexdigest() == site.loop.resources.registry.get("v1.1").sha256


def test_an_act_becomes_a_run_that_can_be_waited_for(cli: Run, admin: TestClient):
    for name in DAGS:
        admin.patch(f"/api/v2/dags/learning_engine_{name}", json={"is_paused": False})
    run_id = cli("train", *WINDOW, "--note", "by the command line", "--json").json["run_id"]
    assert "by the command line" in cli("status", "--run", run_id).out
    # Nothing schedules here, so whatever was started stays queued.
    for words in (("fisher", "v1.0"), ("adapters", "deploy", "v1.0", "-y"), ("rollback", "-y"), ("train", *WINDOW)):
        waited = cli(*words, "--wait", "--timeout", "0")
        assert (waited.code, waited.out) == (codes.FAILED, "")
        assert "found it queued. The run goes on." in waited.err


def test_what_is_refused_and_why(cli: Run, admin: TestClient):
    admin.patch("/api/v2/dags/learning_engine_weekly", json={"is_paused": True})
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for words, code, why in (
        (("train",), codes.REFUSED, "paused"),
        (("train", "--epochs", "-1"), codes.REFUSED, "epochs"),
        (("preflight", "--start", "2026-01-01", "--end", later), codes.REFUSED, "an end that is over"),
        (("adapters", "show", "v9.9"), codes.NOT_FOUND, "v9.9"),
        (("adapters", "download", "v9.9"), codes.NOT_FOUND, "v9.9"),
        (("adapters", "deploy", "v9.9", "--yes"), codes.NOT_FOUND, "v9.9"),
        (("fisher", "v9.9"), codes.NOT_FOUND, "v9.9"),
        (("status", "--run", "nothing"), codes.NOT_FOUND, "nothing"),
    ):
        done = cli(*words)
        assert (done.code, done.out) == (code, ""), (words, done)
        assert why in done.err, (words, done.err)


def test_an_address_that_is_not_learning_engines(cli: Run, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.TOKEN, (login.read() or login.Login("", "")).token)
    done = cli("live", "--url", f"{url}/elsewhere")
    assert done.code == codes.NO_ACCESS
    assert "found a web page" in done.err
