"""The command line, run in this process against a real HTTP server that answers as the contract says."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from learning_engine.cli import following, login, main
from tests.cli.server import Stage, serving


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout as one JSON document."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, FastAPI]]:
    with serving() as served:
        yield served


@pytest.fixture
def stage(server: tuple[str, FastAPI]) -> Stage:
    url, app = server
    app.state.stage = Stage(url)
    return app.state.stage


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that $XDG_CONFIG_HOME names; nobody is logged in."""
    for name in (login.URL, login.TOKEN, login.PASSWORD, "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_PROXY", "*")
    # The server answers at once, so nothing is gained by asking it seldom.
    monkeypatch.setattr(following, "FIRST", 0.01)
    monkeypatch.setattr(following, "LONGEST", 0.02)
    monkeypatch.setattr(following, "AFTER_ERROR", 0.01)
    return tmp_path / "config"


@pytest.fixture
def anonymous(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with nobody logged in and no terminal."""

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return run


@pytest.fixture
def cli(anonymous: Run, stage: Stage) -> Run:
    """Runs a command as the admin."""
    login.write(login.Login(stage.url, "token-of-admin"))
    return anonymous


@pytest.fixture
def viewer(anonymous: Run, stage: Stage) -> Run:
    """Runs a command as somebody who may only look."""
    login.write(login.Login(stage.url, "token-of-viewer"))
    return anonymous
