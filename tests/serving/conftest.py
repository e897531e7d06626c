"""One base model, its adapters, and the local model server as processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from learning_engine.sections import Serving
from learning_engine.serving.client import Replica
from tests import tiny
from tests.serving import contract

ROOT = Path(__file__).parents[2]
SETTINGS = Serving(connect_timeout_seconds=2, request_timeout_seconds=20, load_timeout_seconds=20)


@dataclass(frozen=True)
class ModelServer:
    url: str
    process: subprocess.Popen[str]

    @property
    def replica(self) -> Replica:
        return Replica(self.url, SETTINGS)


@contextmanager
def model_servers(base: Path, *arguments: list[str]) -> Iterator[list[ModelServer]]:
    """One local model server for each list of arguments, started side by side, each on a port of its own."""
    command = [sys.executable, "-m", "demo.model_server", "--model", str(base), "--name", contract.BASE, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        processes = []
        for more in arguments:
            process = subprocess.Popen([*command, *more], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            processes.append(process)
        # The line comes when the server listens; at the end of a server that failed it is empty.
        yield [ModelServer(process.stdout.readline().split()[-1], process) for process in processes]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("serving") / "base")


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contract.write_adapters(base, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="session")
def pair(base: Path) -> Iterator[tuple[ModelServer, ModelServer]]:
    """Two replicas, as MAX Serve is: every hazard on."""
    with model_servers(base, [], []) as (first, second):
        yield first, second


@pytest.fixture(scope="session")
def well_behaved(base: Path) -> Iterator[ModelServer]:
    with model_servers(base, ["--hazards", "none"]) as (server,):
        yield server


@pytest.fixture
def mortal(base: Path) -> Iterator[Callable[[], ModelServer]]:
    """Starts servers that a test kills."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(model_servers(base, []))[0]
