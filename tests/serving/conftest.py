"""One base model, its adapters, and the local model server as processes."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import pytest
import requests

from demo import model_server
from demo.ports import free_port
from learning_engine.config.sections import Serving
from learning_engine.records.probe import Probe
from learning_engine.serving.client import Replica
from tests import tiny
from tests.serving import contract, truth
from tests.serving.scripted import Answers, scripted_servers

ROOT = Path(__file__).parents[2]
SETTINGS = Serving(connect_timeout_seconds=2, request_timeout_seconds=20, load_timeout_seconds=20)


@dataclass(frozen=True)
class ModelServer:
    url: str
    process: BaseProcess

    @property
    def replica(self) -> Replica:
        return Replica(self.url, SETTINGS)


def is_up(url: str) -> bool:
    """Whether the server at `url` responds at all; its adapters may be missing."""
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


@contextmanager
def model_servers(base: Path, *arguments: list[str]) -> Iterator[list[ModelServer]]:
    """One local model server process for each list of arguments.

    They are forked from one process that has imported everything, since imports take most of the start time.
    """
    forks, ports = multiprocessing.get_context("forkserver"), set[int]()
    forks.set_forkserver_preload(["demo.model_server"])
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}"}))
        servers = []
        for more in arguments:
            port = free_port(taken=ports)
            command = ["--model", str(base), "--name", contract.BASE, "--port", str(port), *more]
            process = forks.Process(target=model_server.main, args=(command,), daemon=True)
            process.start()
            stack.callback(process.join, 30)
            stack.callback(process.kill)
            servers.append(ModelServer(f"http://127.0.0.1:{port}", process))
        for server in servers:
            while not is_up(server.url):
                assert server.process.is_alive(), f"A model server ended with {server.process.exitcode}"
                time.sleep(0.05)
        yield servers


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("serving") / "base")


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contract.write_adapters(base, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return tiny.make_adapter(base, tmp_path / "adapter", seed=1)


@pytest.fixture(scope="session")
def pair(base: Path) -> Iterator[tuple[ModelServer, ModelServer]]:
    """Two replicas that behave like MAX Serve: every hazard is on."""
    with model_servers(base, [], []) as (first, second):
        yield first, second


@pytest.fixture(scope="session")
def good(base: Path, adapters: Path) -> list[Probe]:
    return truth.probes(base, adapters / "good")


@pytest.fixture(scope="session")
def other(base: Path, adapters: Path) -> list[Probe]:
    return truth.probes(base, adapters / "other")


@pytest.fixture(scope="session")
def bare(base: Path) -> list[Probe]:
    """The base model's answers."""
    return truth.probes(base, None)


@pytest.fixture
def scripted() -> Iterator[Callable[[Answers], Replica]]:
    with scripted_servers() as start:
        yield start
