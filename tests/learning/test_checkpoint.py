import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from learning_engine.errors import TrainingError
from learning_engine.learning import checkpoint, model
from tests.learning.test_trainer import ewc_penalty, snapshot, train

ROOT = Path(__file__).parents[2]


def newest(workdir: Path) -> Path:
    return max(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


class Killed(Exception):
    pass


def interrupted(load, adapter, examples, workdir: Path, moved: Path, *, at: int, **settings) -> None:
    """Train until the checkpoint of step `at`, move it away and abort."""

    def move(directory: Path) -> None:
        if directory.name == f"checkpoint-{at}":
            shutil.copytree(directory, moved)
            raise Killed

    loaded = load(adapter)
    with pytest.raises(Killed):
        train(loaded, examples, workdir, penalty=ewc_penalty(loaded, examples, 100.0), on_checkpoint=move, **settings)


# Within an epoch of 5 steps, at its end, and during accumulation; the adapter's dropout draws random numbers.
@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_steps": 3, "epochs": 3, "at": 6, "log_steps": 2},
        {"checkpoint_steps": 5, "epochs": 2.5, "at": 5, "log_steps": 3},
        {"checkpoint_steps": 2, "epochs": 3, "at": 4, "batch_size": 4, "gradient_accumulation": 3},
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(load, adapter, examples, tmp_path, settings):
    settings, at = {key: value for key, value in settings.items() if key != "at"}, settings["at"]
    whole_model = load(adapter)
    whole = train(
        whole_model, examples, tmp_path / "whole", penalty=ewc_penalty(whole_model, examples, 100.0), **settings
    )
    interrupted(load, adapter, examples, tmp_path / "first", tmp_path / "moved", at=at, **settings)
    shutil.rmtree(tmp_path / "first")

    loaded = load(adapter)
    resumed = train(
        loaded,
        examples,
        tmp_path / "second",
        penalty=ewc_penalty(loaded, examples, 100.0),
        resume=tmp_path / "moved",
        **settings,
    )
    assert resumed.resumed_at_step == at
    assert resumed.steps == whole.steps
    assert resumed.curve == whole.curve
    assert all(torch.equal(weight, snapshot(loaded)[name]) for name, weight in snapshot(whole_model).items())
    assert resumed.tokens < whole.tokens


@pytest.mark.stack
def test_another_process_can_resume(load, base, adapter, examples, tmp_path):
    loaded = load(adapter)
    whole = train(
        loaded, examples, tmp_path / "whole", penalty=ewc_penalty(loaded, examples, 100.0), checkpoint_steps=4
    )
    interrupted(load, adapter, examples, tmp_path / "first", tmp_path / "moved", at=4, checkpoint_steps=4)
    script = f"""
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from learning_engine.config import sections
from learning_engine.learning import model
from tests import tiny
from tests.learning.test_trainer import ewc_penalty, train
here = Path({str(tmp_path)!r})
loaded = model.load(
    sections.Model(base={str(base)!r}, device="cpu"), sections.Lora(), adapter=Path({str(adapter)!r}),
    trainable=True, seed=0,
)
examples = tiny.examples(loaded.tokenizer, 40, seed=0)
penalty = ewc_penalty(loaded, examples, 100.0)
metrics = train(
    loaded, examples, here / "second", penalty=penalty, resume=here / "moved", checkpoint_steps=4
)
print(json.dumps(metrics.curve))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert [tuple(point) for point in json.loads(done.stdout.splitlines()[-1])] == whole.curve


def test_a_checkpoint_is_one_directory_and_only_the_newest_is_kept(load, adapter, examples, tmp_path):
    seen = []

    def check(directory: Path) -> None:
        assert checkpoint.missing(directory) == []
        step = json.loads((directory / checkpoint.STATE).read_text())["global_step"]
        seen.append((directory.name, step, {path.name for path in directory.iterdir()}))

    train(load(adapter), examples, tmp_path, checkpoint_steps=2, on_checkpoint=check)
    assert [(name, step) for name, step, _ in seen] == [(f"checkpoint-{step}", step) for step in (2, 4, 6, 8)]
    assert seen[0][2] == set(checkpoint.FILES), "no training_args.bin, no base weights, no tokenizer"
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"], "the last step is the candidate"


def test_nothing_in_a_checkpoint_can_run_code(load, adapter, examples, tmp_path):
    train(load(adapter), examples, tmp_path, checkpoint_steps=2)
    directory = newest(tmp_path)
    assert load_file(directory / "adapter_model.safetensors").keys() == model.lora_weights(load().model).keys()
    torch.load(directory / "optimizer.pt", weights_only=True)
    torch.load(directory / "scheduler.pt", weights_only=True)

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "evil",))

    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        poisoned = tmp_path / f"poisoned-{name}"
        shutil.copytree(directory, poisoned)
        torch.save({"state": Evil()}, poisoned / name)
        with pytest.raises(Exception, match="Weights only load failed"):
            train(load(adapter), examples, tmp_path / "w", checkpoint_steps=2, resume=poisoned)
    assert not (tmp_path / "evil").exists()


def test_an_incomplete_checkpoint_or_one_of_another_training_is_rejected(load, adapter, examples, tmp_path):
    train(load(adapter), examples, tmp_path, checkpoint_steps=2)
    directory = newest(tmp_path)
    with pytest.raises(TrainingError, match=r"training of 20 steps.*found one of 10"):
        train(load(adapter), examples, tmp_path / "w", epochs=4, resume=directory)
    (directory / "trainer_state.json").unlink()
    with pytest.raises(TrainingError, match=r"no trainer_state\.json"):
        train(load(adapter), examples, tmp_path / "w", resume=directory)
