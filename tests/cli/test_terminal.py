"""At a terminal: the questions before an act, the prompt for a password, the live bar."""

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from learning_engine.cli import codes, login
from tests.cli import scene
from tests.cli.server import PASSWORDS, Stage
from tests.conftest import ROOT

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def terminal(home: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs a command with a terminal for stdin and stderr, as somebody who logs in; gives code, stdout, terminal."""
    login.write(login.Login(stage.url, "token-of-admin"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)

    def run(*arguments: str, typed: str = "", **more: str) -> tuple[int, str, str]:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-P", "-m", "learning_engine.cli", *arguments]
        with subprocess.Popen(
            command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=environment | more, start_new_session=True
        ) as process:
            os.close(theirs)
            try:
                seen, out = _talk(ours, typed), process.stdout.read()
            finally:
                process.kill()
        os.close(ours)
        return process.returncode, out.decode(), seen

    return run


def _talk(descriptor: int, typed: str) -> str:
    """All that the program writes on its terminal; `typed` is the answer to its question."""
    written = b""
    while select.select([descriptor], [], [], 60)[0]:
        try:
            written += os.read(descriptor, 65_536)
        except OSError:
            # The program has closed its side.
            return written.decode()
        # What is typed before the question is thrown away where the answer is not shown.
        if typed and written.endswith((b"[y/N] ", b"Password: ")):
            os.write(descriptor, typed.encode())
            typed = ""
    raise AssertionError(f"the program waits, having written {written!r}")


def posts(stage: Stage) -> list[str]:
    return [question["path"] for question in stage.asked if question["method"] == "POST"]


def test_deploy_asks_and_names_what_it_replaces(terminal: Terminal, stage: Stage):
    code, _, seen = terminal("adapters", "deploy", "v1.0", typed="n\n")
    assert code == codes.FAILED
    assert "v1.0 was revoked." in seen
    assert "Put v1.0 live in place of v1.1? [y/N]" in seen
    assert posts(stage) == []
    code, out, _ = terminal("adapters", "deploy", "v1.0", "--json", typed="y\n")
    assert code == codes.DONE
    assert out.startswith("{")
    assert posts(stage) == ["/learning-engine/adapters/v1.0/deploy"]


def test_rollback_asks_too(terminal: Terminal, stage: Stage):
    code, _, seen = terminal("rollback", typed="y\n")
    assert code == codes.DONE
    assert "Return to v1.0, and revoke v1.1? [y/N]" in seen
    (asked,) = stage.asked_for("/learning-engine/rollback")
    assert asked["body"] == {"version": "v1.1"}, "another one that went live meanwhile is not left"


def test_the_password_is_asked_for_and_not_shown(terminal: Terminal, stage: Stage):
    login.remove()
    code, _, seen = terminal("login", "--url", stage.url, "--user", "viewer", typed=f"{PASSWORDS['viewer']}\n")
    assert code == codes.DONE
    assert "Password: " in seen
    assert login.read() == login.Login(stage.url, "token-of-viewer")


def test_watch_draws_a_bar_and_ends_with_the_run(terminal: Terminal, stage: Stage):
    stage.trainings[scene.LONG_RUN] = scene.story()
    code, out, seen = terminal("status", "--watch", COLUMNS="80")
    assert code == codes.DONE
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "━" in plain
    assert "20/40 loss 0.421 EWC 0.0137 ETA 3 min 20 s" in plain
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80
    assert "v1.2" in out
    assert "\x1b" not in out


def test_no_color_is_heeded(terminal: Terminal, stage: Stage):
    stage.expired.add("admin")
    assert "\x1b[31m" in terminal("live")[2]
    assert "\x1b[3" not in terminal("live", NO_COLOR="1")[2]
