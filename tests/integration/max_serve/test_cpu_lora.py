"""The dense LoRA of demo/cpu_lora.py is in the processes that it starts, and nowhere else."""

import subprocess
from pathlib import Path

import pytest

from demo import max_server

pytestmark = pytest.mark.real

WHOSE = "from max.experimental.nn.common_layers.lora_wrapper import LoRA; print(LoRA.forward.__module__)"


@pytest.mark.parametrize(
    ("first", "module"), [("", "max.experimental.nn.common_layers.lora_wrapper"), ("import cpu_lora; ", "cpu_lora")]
)
def test_only_who_asks_for_it_computes_densely(max_python: Path, first: str, module: str) -> None:
    done = subprocess.run(
        [max_python, "-c", first + WHOSE], cwd=max_server.LAUNCHER.parent, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.split() == [module], done.stderr
