"""The local model server fulfils MAX Serve's contract. tests/integration/max_serve checks the real routes too."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo import model_server
from learning_engine.serving.client import Replica
from tests.serving import contract
from tests.serving.conftest import ROOT, SETTINGS, ModelServer, model_servers


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_the_local_server_satisfies_the_contract(
    case: contract.Case, pair: tuple[ModelServer, ModelServer], adapters: Path
) -> None:
    contract.run(case, pair[0].url, adapters)


def test_the_local_server_without_lora_satisfies_the_contract(base: Path, adapters: Path) -> None:
    with model_servers(base, ["--max-loras", "0"]) as (server,):
        for case in contract.CASES_WITHOUT_LORA:
            contract.run(case, server.url, adapters)


def test_the_command_prints_its_address_and_stops_at_once(base: Path) -> None:
    command = [sys.executable, "-m", "demo.model_server", "--model", str(base), "--name", "tiny", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().removeprefix("Model server: ").strip()
        try:
            assert Replica(url, SETTINGS).models() == ["tiny"]
        finally:
            process.terminate()
        assert process.wait(5) == 0


@pytest.mark.parametrize("arguments", [["--hazards", "fire"], ["--port", "many"], []])
def test_the_command_refuses_unknown_and_missing_arguments(base: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        model_server.main([*(["--model", str(base), "--name", "tiny"] if arguments else []), *arguments])
