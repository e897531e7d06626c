"""At a terminal: confirmations, the password prompt, the progress bar."""

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from learning_engine.cli import exit_codes, login
from tests.cli import samples
from tests.cli.stub import Stub
from tests.cli.stub_server import PASSWORDS
from tests.conftest import ROOT

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def terminal(home: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs a command as admin with a terminal for stdin and stderr; returns exit code, stdout, terminal output."""
    login.write(login.Login(stub.url, "token-of-admin"))
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
                seen, out = _interact(ours, typed), process.stdout.read()
            finally:
                process.kill()
        os.close(ours)
        return process.returncode, out.decode(), seen

    return run


def _interact(descriptor: int, typed: str) -> str:
    """All terminal output of the program; `typed` is sent at its prompt."""
    written = b""
    while select.select([descriptor], [], [], 60)[0]:
        try:
            written += os.read(descriptor, 65_536)
        except OSError:
            # The program has closed its side.
            return written.decode()
        # Wait for the prompt: getpass discards earlier input.
        if typed and written.endswith((b"[y/N] ", b"Password: ")):
            os.write(descriptor, typed.encode())
            typed = ""
    raise AssertionError(f"the program waits, having written {written!r}")


def posts(stub: Stub) -> list[str]:
    return [question["path"] for question in stub.asked if question["method"] == "POST"]


def test_deploy_asks_for_confirmation(terminal: Terminal, stub: Stub):
    code, _, seen = terminal("adapters", "deploy", "v1.0", typed="n\n")
    assert code == exit_codes.FAILED
    assert "v1.0 was revoked." in seen
    assert "Deploy v1.0 in place of v1.1? [y/N]" in seen
    assert posts(stub) == []
    code, out, _ = terminal("adapters", "deploy", "v1.0", "--json", typed="y\n")
    assert code == exit_codes.DONE
    assert out.startswith("{")
    assert posts(stub) == ["/learning-engine/adapters/v1.0/deploy"]


def test_rollback_asks_for_confirmation(terminal: Terminal, stub: Stub):
    code, _, seen = terminal("rollback", typed="y\n")
    assert code == exit_codes.DONE
    assert "Roll back to v1.0 and revoke v1.1? [y/N]" in seen
    (asked,) = stub.asked_for("/learning-engine/rollback")
    assert asked["body"] == {"version": "v1.1"}, "names the version shown, so that the server rejects a changed one"


def test_the_password_prompt_does_not_echo(terminal: Terminal, stub: Stub):
    login.remove()
    code, _, seen = terminal("login", "--url", stub.url, "--user", "viewer", typed=f"{PASSWORDS['viewer']}\n")
    assert code == exit_codes.DONE
    assert "Password: " in seen
    assert login.read() == login.Login(stub.url, "token-of-viewer")


def test_watch_draws_a_progress_bar(terminal: Terminal, stub: Stub):
    stub.trainings[samples.LONG_RUN] = samples.run_states()
    code, out, seen = terminal("status", "--watch", COLUMNS="80")
    assert code == exit_codes.DONE
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "━" in plain
    assert "20/40 loss 0.421 EWC 0.0137 ETA 3 min 20 s" in plain
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80
    assert "v1.2" in out
    assert "\x1b" not in out


def test_no_color_disables_colours(terminal: Terminal, stub: Stub):
    stub.expired.add("admin")
    assert "\x1b[31m" in terminal("live")[2]
    assert "\x1b[3" not in terminal("live", NO_COLOR="1")[2]
