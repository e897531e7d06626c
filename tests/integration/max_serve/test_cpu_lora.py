"""Only processes started by demo/cpu_lora.py use its dense LoRA."""

import subprocess
from pathlib import Path

import pytest

from demo import max_server

pytestmark = pytest.mark.real

PRINT_MODULE = "from max.experimental.nn.common_layers.lora_wrapper import LoRA; print(LoRA.forward.__module__)"


@pytest.mark.parametrize(
    ("first", "module"), [("", "max.experimental.nn.common_layers.lora_wrapper"), ("import cpu_lora; ", "cpu_lora")]
)
def test_only_processes_that_import_it_use_the_dense_kernel(max_python: Path, first: str, module: str) -> None:
    done = subprocess.run(
        [max_python, "-c", first + PRINT_MODULE],
        cwd=max_server.LAUNCHER.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.split() == [module], done.stderr
