"""MAX Serve in a separate environment of 1.8 GB in .cache, created once, because it pins other versions than Airflow.

There are two servers: one with only MAX's routes, which starts in seconds, and the complete server on the CPU, which
starts in half a minute, or in three minutes if .cache/max-cache is empty.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import pytest

from demo import max_server, process_tree
from demo.ports import free_port
from demo.processes import Running, Stack
from include.setup import counterparts
from include.setup.packages import SetupError
from learning_engine.config.sections import Serving
from learning_engine.serving.client import Replica
from tests.programs import missing
from tests.serving import contract, swaps
from tests.serving.conftest import is_up
from tests.steps.conftest import loop  # noqa: F401 (a fixture)

HERE = Path(__file__).parent
QUIET = {"MAX_SERVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def max_python() -> Path:
    """The interpreter of MAX's environment, which is installed if it is missing."""
    try:
        counterparts.max_serve()
    except SetupError as error:
        missing(f"{counterparts.MAX} is missing: {error}")
    return max_server.PYTHON


@contextmanager
def running(command: list[str], *, url: str, log: Path, seconds: float) -> Iterator[None]:
    """Run a server during the block; the block starts once /health answers."""
    with log.open("w") as output:
        process = Popen(command, cwd=HERE, env={**os.environ, **QUIET}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + seconds
        while not is_up(url):
            assert process.poll() is None, f"{command} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{command} is not up after {seconds} s: {log.read_text()[-2000:]}"
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="package")
def real_routes(max_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MAX's real routes; /without-lora below it has them with LoRA disabled."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(max_python), "-m", "uvicorn", "contract_app:app", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, url=url, log=tmp_path_factory.mktemp("max") / "routes.log", seconds=180):
        yield url


@dataclass
class MaxServer:
    """The complete MAX Serve with the base model in `base`; it can be killed and started again at the same address."""

    stack: Stack
    base: Path
    port: int
    seconds: list[float] = field(default_factory=list)
    _running: Running | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def replica(self) -> Replica:
        return Replica(self.url, Serving())

    def start(self) -> None:
        """Start it and send the first request. `seconds` records the duration of each start."""
        began = time.monotonic()
        self._running = self.stack.up(max_server.program(self.base, contract.BASE, port=self.port))
        max_server.warm_up(self.url, contract.BASE)
        self.seconds.append(round(time.monotonic() - began, 1))

    def kill(self) -> None:
        """Kill each of its processes, as if the machine had run out of memory."""
        processes = self._running.tree() if self._running else []
        for process in processes:
            process.kill()
        deadline = time.monotonic() + 30
        while any(process_tree.alive(process) for process in processes):
            assert time.monotonic() < deadline, "MAX Serve survives SIGKILL"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swaps.make_base(tmp_path_factory.mktemp("max_base") / "base")


@pytest.fixture(scope="package")
def shared_server(max_python: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaxServer]:
    """The complete server, shared by all tests; each test uses its own adapter names."""
    stack = Stack(tmp_path_factory.mktemp("whole"))
    try:
        server = MaxServer(stack, base, free_port())
        server.start()
        yield server
    finally:
        stack.stop()


@pytest.fixture
def server(shared_server: MaxServer) -> Iterator[MaxServer]:
    """The complete server, without adapters that earlier tests may have left."""
    yield shared_server
    with contextlib.suppress(Exception):
        for name in set(shared_server.replica.models()) - {contract.BASE}:
            shared_server.replica.unload(name)


@pytest.fixture(autouse=True)
def unique_adapter_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own adapter names, since MAX keeps the old weights of a name that it has seen before."""
    monkeypatch.setenv("LEARNING_ENGINE__SERVING__ADAPTER_PREFIX", f"{tmp_path.name}-"[-64:])


@pytest.fixture(scope="session")
def world(base: Path, tmp_path_factory: pytest.TempPathFactory) -> swaps.World:
    return swaps.make_world(base, tmp_path_factory.mktemp("max_world"))


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contract.write_adapters(base, tmp_path_factory.mktemp("max_adapters"))
