"""Measuring and training on a GPU, while Fisher information is stored and loaded on the CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_engine.config import sections
from learning_engine.learning import ewc, fisher, scale, sketch, trainer
from learning_engine.learning.model import Loaded, lora_weights
from tests import pretend_gpu
from tests.learning.test_fisher import assert_close
from tests.learning.test_sketch import size


def measured(loaded: Loaded, examples, structure: str = "kronecker") -> fisher.FisherInformation:
    settings = sections.Fisher(structure=structure, batch_size=8, draws=1)
    return scale.scaled(fisher.compute(loaded, examples, settings, seed=0, guards="base"))


@pytest.mark.parametrize("structure", ["kronecker", "diagonal"])
def test_fisher_information_is_measured_on_the_models_device(load, adapter, examples, structure: str):
    expected = measured(load(adapter), examples, structure).tensors
    with pretend_gpu.moved(load(adapter)) as loaded:
        found = measured(loaded, examples, structure).tensors
    assert {str(tensor.device) for tensor in found.values()} == {"cpu"}
    assert_close(found, expected, rel=1e-5)


@pytest.mark.parametrize("strength", [300.0, "auto"])
@pytest.mark.parametrize("kind", ["kronecker", "sketched", "diagonal"])
def test_the_penalty_moves_stored_information_to_the_models_device(load, adapter, examples, kind: str, strength):
    information = measured(load(adapter), examples, "diagonal" if kind == "diagonal" else "kronecker")
    if kind == "sketched":
        small = sketch.fitted(information.tensors, size(information.tensors) // 3)
        information = replace(information, tensors=small)

    def gradients(loaded: Loaded) -> dict[str, torch.Tensor]:
        penalty = ewc.anchored_penalty(loaded.model, information, strength)
        weights = lora_weights(loaded.model)
        with torch.no_grad():
            for weight in weights.values():
                weight *= 1.1
        assert penalty.add_gradient(loaded.model).item() > 0
        return {name: weight.grad.cpu() for name, weight in weights.items()}

    expected = gradients(load(adapter))
    with pretend_gpu.moved(load(adapter)) as loaded:
        assert_close(gradients(loaded), expected, rel=1e-5)


# torch does not load a checkpoint's weights into parameters on this device; λ and the optimizer's state are restored.
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("objective", ["sft_npo", pytest.param("kto", marks=pytest.mark.stack)])
def test_training_and_resuming_on_a_gpu_equal_those_on_the_cpu(load, adapter, examples, objective: str, tmp_path: Path):
    settings = sections.Training(objective=objective, epochs=2, checkpoint_steps=4, log_steps=1)
    information = measured(load(adapter), examples)

    def train(loaded: Loaded, name: str, resume: Path | None = None):
        return trainer.train(
            loaded,
            examples,
            ewc.anchored_penalty(loaded.model, information, "auto"),
            settings,
            workdir=tmp_path / name,
            resume=resume,
            on_checkpoint=None,
            on_log=lambda _: None,
        )

    expected = train(load(adapter), "cpu")
    with pretend_gpu.moved(load(adapter)) as loaded:
        found = train(loaded, "gpu")
    with pretend_gpu.moved(load(adapter)) as loaded:
        again = train(loaded, "again", resume=tmp_path / "gpu" / "checkpoint-8")
    assert found.device == "meta"
    assert np.array(found.curve) == pytest.approx(np.array(expected.curve), rel=1e-3)
    assert again.resumed_at_step == 8
