"""MAX Serve in an environment of its own: it pins other versions than Airflow. 1.8 GB, made once, kept in .cache."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.ports import free_port
from learning_engine.sections import Serving
from learning_engine.serving.client import Replica
from tests import tiny
from tests.serving import contract

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[2] / ".cache" / "max-venv"
PACKAGE = "modular==26.7.0"
QUIET = {"MAX_SERVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def unavailable(reason: str) -> None:
    """Fail where CI must have everything, else skip with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def max_python() -> Path:
    """The interpreter of MAX's environment, which is installed here where it is missing."""
    python = ENVIRONMENT / "bin" / "python"
    complete = ENVIRONMENT / PACKAGE
    if complete.exists():
        return python
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        unavailable(f"{PACKAGE} needs uv to be installed into {ENVIRONMENT}: pip install uv")
    for command in (
        [uv, "venv", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        [uv, "pip", "install", "--python", str(python), PACKAGE],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            unavailable(f"{PACKAGE} could not be installed: {done.stderr.strip()[-500:]}")
    complete.touch()
    return python


@contextmanager
def running(command: list[str], *, url: str, log: Path, seconds: float) -> Iterator[None]:
    """A server that is up, /health answering, until the block ends."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=HERE, env={**os.environ, **QUIET}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + seconds
        while not Replica(url, Serving()).healthy():
            assert process.poll() is None, f"{command} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{command} is not up after {seconds} s: {log.read_text()[-2000:]}"
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="session")
def real_routes(max_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of MAX's real routes; /without-lora below it has them with LoRA switched off."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(max_python), "-m", "uvicorn", "contract_app:app", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, url=url, log=tmp_path_factory.mktemp("max") / "routes.log", seconds=180):
        yield url


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("max_adapters")
    return contract.write_adapters(tiny.make_base(directory / "base"), directory)
