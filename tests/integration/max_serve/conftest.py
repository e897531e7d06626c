"""MAX Serve in an environment of its own: it pins other versions than Airflow. 1.8 GB, made once, kept in .cache.

Two servers: its routes alone, which are there in seconds, and all of it on the CPU, which takes half a minute to start
and three where .cache/max-cache is empty.
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
from tests.serving import contract, swaps
from tests.serving.conftest import is_up
from tests.steps.conftest import loop, s3  # noqa: F401 (fixtures)

HERE = Path(__file__).parent
QUIET = {"MAX_SERVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def unavailable(reason: str) -> None:
    """Fail where CI must have everything, else skip with the reason."""
    if counterparts.in_ci():
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def max_python() -> Path:
    """The interpreter of MAX's environment, which is installed here where it is missing."""
    try:
        counterparts.max_serve()
    except SetupError as error:
        unavailable(f"{counterparts.MAX} is missing: {error}")
    return max_server.PYTHON


@contextmanager
def running(command: list[str], *, url: str, log: Path, seconds: float) -> Iterator[None]:
    """A server that is up, /health answering, until the block ends."""
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
    """Address of MAX's real routes; /without-lora below it has them with LoRA switched off."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(max_python), "-m", "uvicorn", "contract_app:app", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, url=url, log=tmp_path_factory.mktemp("max") / "routes.log", seconds=180):
        yield url


@dataclass
class WholeServer:
    """MAX Serve with the base model in `base`; `start` and `kill` may alternate, the address stays."""

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
        """Up, and past its first request. `seconds` tells how long that took, each time."""
        began = time.monotonic()
        self._running = self.stack.up(max_server.program(self.base, contract.BASE, port=self.port))
        max_server.warm_up(self.url, contract.BASE)
        self.seconds.append(round(time.monotonic() - began, 1))

    def kill(self) -> None:
        """SIGKILL to each of its processes, as when the machine's memory has run out."""
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
def whole(max_python: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeServer]:
    """The whole server, for all tests: each gives its adapters names of its own."""
    stack = Stack(tmp_path_factory.mktemp("whole"))
    try:
        server = WholeServer(stack, base, free_port())
        server.start()
        yield server
    finally:
        stack.stop()


@pytest.fixture
def server(whole: WholeServer) -> Iterator[WholeServer]:
    """The whole server with no adapter that a test before could have left."""
    yield whole
    with contextlib.suppress(Exception):
        for name in set(whole.replica.models()) - {contract.BASE}:
            whole.replica.unload(name)


@pytest.fixture(autouse=True)
def names_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX goes on with the old weights of a name that it had before: no test may use another one's."""
    monkeypatch.setenv("LEARNING_ENGINE__SERVING__ADAPTER_PREFIX", f"{tmp_path.name}-"[-64:])


@pytest.fixture(scope="session")
def world(base: Path, tmp_path_factory: pytest.TempPathFactory) -> swaps.World:
    return swaps.make_world(base, tmp_path_factory.mktemp("max_world"))


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contract.write_adapters(base, tmp_path_factory.mktemp("max_adapters"))
