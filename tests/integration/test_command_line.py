"""The command line, and the REST API behind it, with the real scheduler: inspect, train, watch, deploy, roll back."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.airflow import USER
from learning_engine.cli import exit_codes
from tests.conftest import ROOT
from tests.integration.conftest import Live
from tests.integration.test_decisions import DAG, add_feedback_window
from tests.integration.test_manual_runs import DEPLOY

# The first test waits for the runs that the fixtures start.
pytestmark = pytest.mark.timeout(900)
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def command(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run `learning-engine` as a shell does, with its own login file."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEARNING_ENGINE", "AIRFLOW"))}
    environment = {**kept, "XDG_CONFIG_HOME": str(home), "PYTHONPATH": str(ROOT / "plugins"), "NO_PROXY": "*"}

    def run(*words: str, expected: int = exit_codes.DONE, **more: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "learning_engine.cli", *words],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=600,
            **more,
        )
        assert done.returncode == expected, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def answer(command: Command, *words: str, **more: Any) -> Any:
    return json.loads(command(*words, "--json", **more).stdout)


def interval(window: dict[str, str]) -> tuple[str, ...]:
    return "--start", window["window_start"], "--end", window["window_end"]


@pytest.fixture(scope="module")
def versions(live: Live, command: Command) -> list[str]:
    """Two versions from separate windows, trained by runs that the command line started."""
    command("live", expected=exit_codes.NO_ACCESS)
    command("login", "--url", live.airflow.url, "--user", USER, "--password-stdin", input=f"{live.airflow.password}\n")
    pause(live, True)
    assert "paused" in command("train", expected=exit_codes.REFUSED).stderr
    pause(live, False)
    live.rest.unpause(DEPLOY)
    trained = []
    for number in range(2):
        window = interval(add_feedback_window(live, f"the command line {number}", count=40, subject=31 + number))
        found = answer(command, "preflight", *window)
        assert found["count_gate"]["passed"]
        words = ("train", *window, "--deploy", "never", "--note", "by the command line")
        if number == 0:
            run = answer(command, *words)["run_id"]
            done = command("status", "--watch", "--run", run)
            assert done.stderr.startswith(f"Run {run}\n")
            (ended,) = answer(command, "status", "--run", run)["recent"]
        else:
            (ended,) = answer(command, *words, "--wait")["recent"]
        assert (ended["state"], ended["note"]) == ("success", "by the command line")
        trained.append(ended["version"])
    return trained


def pause(live: Live, paused: bool) -> None:
    live.rest.call("PATCH", f"dags/{DAG}", json={"is_paused": paused})


def test_read_commands_show_the_state(live: Live, command: Command, versions: list[str]):
    health = answer(command, "health")
    assert {check["name"]: check["state"] for check in health["checks"]}["store"] == "up"
    listed = answer(command, "adapters", "list", "--limit", "100")["items"]
    assert {*versions} <= {item["version"] for item in listed}
    shown = answer(command, "adapters", "show", versions[1])
    assert shown["metadata"]["run"]["triggered_by"] == USER
    assert answer(command, "storage")["versions"] == len(listed)
    assert "learning_engine" in command("metrics").stdout
    for words in (("health",), ("status",), ("adapters", "list"), ("adapters", "show", versions[1]), ("storage",)):
        assert max(len(line) for line in command(*words).stdout.splitlines()) <= 80
    command("adapters", "show", "v99.0", expected=exit_codes.NOT_FOUND)
    command("train", "--epochs", "-1", expected=exit_codes.REFUSED)


def test_the_downloaded_archive_is_the_one_in_the_bucket(
    live: Live, command: Command, versions: list[str], tmp_path: Path
):
    file = tmp_path / "adapter.tar.gz"
    command("adapters", "download", versions[0], "--output", str(file))
    published = live.resources.registry.get(versions[0])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == published.sha256


def test_deploy_roll_back_and_query_what_was_live_at_a_time(command: Command, versions: list[str]):
    first, second = versions
    command("adapters", "deploy", first, expected=exit_codes.USAGE)
    moments = []
    for version in (first, second):
        command("adapters", "deploy", version, "--yes", "--wait", "--note", "by the command line")
        assert answer(command, "live")["version"] == version
        moments.append(datetime.now(UTC).isoformat())
    assert answer(command, "rollback", "--yes", "--wait")["state"] == "success"
    assert answer(command, "live")["version"] == first
    assert [answer(command, "deployments", "--at", moment)["version"] for moment in moments] == [first, second]
    newest = answer(command, "deployments", "--limit", "1")["items"][0]
    assert (newest["action"], newest["version"], newest["previous"]) == ("rollback", first, second)
    assert answer(command, "adapters", "show", second)["revocation"]["by"]
