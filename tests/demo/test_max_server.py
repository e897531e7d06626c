"""The choice of the demo's server, and the command of the real one, which tests/integration/max_serve tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo import max_server, stack
from demo.ports import LOOPBACK
from tests.conftest import ROOT


def option(command: tuple[str, ...], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_real_server_listens_on_loopback_and_caches_compiled_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "x")
    program = max_server.program(tmp_path, "town", port=8299)
    assert (option(program.command, "--host"), option(program.command, "--port")) == (LOOPBACK, "8299")
    assert program.env["MODULAR_CACHE_DIR"] == str(ROOT / ".cache" / "max-cache")
    assert program.env["MAX_SERVE_DISABLE_TELEMETRY"] == "1"
    assert program.env["MAX_SERVE_METRICS_ENDPOINT_PORT"] != "8299"
    assert "AIRFLOW_CONN_SECRET" not in program.env


def test_the_real_server_loads_as_many_adapters_as_in_production() -> None:
    compose = (ROOT / "docker-compose.airflow.yaml").read_text()
    command = max_server.program(Path(), "town", port=8299).command
    assert f'--max-num-loras\n      - "{option(command, "--max-num-loras")}"' in compose
    for flag in max_server.FLAGS:
        assert flag in compose


def test_the_error_for_an_unknown_server_lists_the_known_ones() -> None:
    command = [sys.executable, "-m", "demo", "demo", "--server", "vllm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "vllm" in done.stderr
    assert all(server in done.stderr for server in stack.SERVERS)
