"""Fisher information in a data-parallel run: each process takes a share of the batches, and all get the sum."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch

from learning_engine.config import sections
from learning_engine.learning import fisher
from tests.learning.test_fisher import assert_close

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import torch
import torch.distributed
from pathlib import Path
from learning_engine.config import sections
from learning_engine.learning import fisher, information, model
from tests import tiny
rank, base, adapter, out, structure = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
store = torch.distributed.FileStore(f"{out}/store", 2)
torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
loaded = model.load(
    sections.Model(base=base, device="cpu"), sections.Lora(), adapter=Path(adapter), trainable=True, seed=0
)
examples = tiny.examples(loaded.tokenizer, 40, seed=0)
settings = sections.Fisher(structure=structure, batch_size=8)
found = fisher.compute(loaded, examples, settings, seed=0, guards="v1.0")
information.save(found, Path(out) / f"{rank}.safetensors")
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("structure", [pytest.param("diagonal", marks=pytest.mark.stack), "kronecker"])
def test_two_processes_give_the_same_result_as_one(load, base, adapter, examples, tmp_path, structure):
    env = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SCRIPT]
    rest = [str(base), str(adapter), str(tmp_path), structure]
    processes = [
        subprocess.Popen([*command, str(rank), *rest], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    settings = sections.Fisher(structure=structure, batch_size=8)
    alone = fisher.compute(load(adapter), examples, settings, seed=0, guards="v1.0")
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, alone.tensors, rel=1e-4)
    assert_close(second, first, rel=0)
