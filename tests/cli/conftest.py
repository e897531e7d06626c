"""The CLI, run in this process against an HTTP stub server with the API's response models."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from learning_engine.cli import follow, login, main
from tests.cli.stub import Stub
from tests.cli.stub_server import serving


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


def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process without a terminal."""

    def run(*words: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(words)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return run


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, FastAPI]]:
    with serving() as served:
        yield served


@pytest.fixture
def stub(server: tuple[str, FastAPI]) -> Stub:
    url, app = server
    app.state.stub = Stub(url)
    return app.state.stub


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory named by $XDG_CONFIG_HOME, without a login."""
    for name in (login.URL, login.TOKEN, login.PASSWORD, "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_PROXY", "*")
    # The stub responds at once, so poll it often.
    monkeypatch.setattr(follow, "INITIAL_INTERVAL", 0.01)
    monkeypatch.setattr(follow, "MAX_INTERVAL", 0.02)
    monkeypatch.setattr(follow, "AFTER_ERROR", 0.01)
    return tmp_path / "config"


@pytest.fixture
def anonymous(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command without a login and without a terminal."""
    return runner(capsys, monkeypatch)


@pytest.fixture
def cli(anonymous: Run, stub: Stub) -> Run:
    """Runs a command as the admin."""
    login.write(login.Login(stub.url, "token-of-admin"))
    return anonymous


@pytest.fixture
def viewer(anonymous: Run, stub: Stub) -> Run:
    """Runs a command as a user who may only read."""
    login.write(login.Login(stub.url, "token-of-viewer"))
    return anonymous
