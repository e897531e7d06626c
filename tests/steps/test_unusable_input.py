"""An unreadable base model, or a training that cannot succeed: the error is clear, and the live version stays live."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaModel

from learning_engine.errors import ModelError, OutOfMemory, TrainingError
from learning_engine.learning import base as bases
from learning_engine.records.contracts import AdapterVersion
from learning_engine.serving import rollout
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import placement
from learning_engine.steps import train as train_step
from tests.steps.conftest import Loop, week

WEIGHTS = "model.safetensors"


def lose_all(base: Path) -> None:
    shutil.rmtree(base)


def lose_configuration(base: Path) -> None:
    (base / "config.json").unlink()


def lose_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").unlink()


def cut_weights(base: Path) -> None:
    whole = (base / WEIGHTS).read_bytes()
    (base / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def cut_header(base: Path) -> None:
    (base / WEIGHTS).write_bytes(b"\x00\x01")


@pytest.fixture
def own(loop: Loop, base: Path, tmp_path: Path) -> Loop:
    """v1.0 is live on a base model that the test may damage; a second week waits to be learned."""
    copy = tmp_path / "base model"
    shutil.copytree(base, copy)
    mine = loop.with_settings(model={"base": str(copy)})
    mine.teach(0, 1)
    mine.serve(mine.learn(week(0)), run_id="r0")
    return mine


def live(loop: Loop) -> AdapterVersion:
    """The live version, after checking that the replica serves it."""
    (version,) = loop.resources.registry.versions()
    current = loop.resources.ledger.current()
    assert current is not None
    assert current.version == version.version
    (replica,) = placement.replicas(loop.resources)
    probes = placement.probes(loop.resources, version)
    assert rollout.prove(replica, current.adapter_name, probes) == len(probes) > 0
    return version


SLOW = [pytest.param(harm, marks=pytest.mark.stack) for harm in (lose_all, lose_configuration, lose_tokenizer)]


@pytest.mark.parametrize("harm", [cut_weights, cut_header, *SLOW])
def test_an_unreadable_base_model_is_named_and_nothing_changes(own: Loop, harm: Callable[[Path], None]) -> None:
    place = Path(own.resources.settings.model.base)
    dataset = extract_step.extract(own.resources, week(1), widen=False)
    fisher = fisher_step.fisher(own.resources, dataset)
    before = live(own)
    harm(place)
    with pytest.raises(ModelError) as caught:
        train_step.train(own.resources, dataset, fisher)
    assert str(place) in str(caught.value)
    assert not caught.value.retryable
    assert live(own) == before


def test_a_base_model_that_differs_from_the_chains_is_refused(own: Loop) -> None:
    dataset = extract_step.extract(own.resources, week(1), widen=False)
    fisher = fisher_step.fisher(own.resources, dataset)
    weights = Path(own.resources.settings.model.base) / WEIGHTS
    changed = {name: tensor + 0.01 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"base model of v1\.0"):
        train_step.train(own.resources, dataset, fisher)
    live(own)


def test_a_base_model_that_does_not_fit_raises_a_retryable_error(own: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 14.00 GiB.")

    dataset = extract_step.extract(own.resources, week(1), widen=False)
    fisher = fisher_step.fisher(own.resources, dataset)
    monkeypatch.setattr(bases.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(OutOfMemory, match=r"base model.*model\.quantization") as caught:
        train_step.train(own.resources, dataset, fisher)
    assert caught.value.retryable
    live(own)


def test_a_loss_that_is_not_a_number_stops_the_training_and_publishes_nothing(own: Loop) -> None:
    weights = Path(own.resources.settings.model.base) / WEIGHTS
    dataset = extract_step.extract(own.resources, week(1), widen=False)
    fisher = fisher_step.fisher(own.resources, dataset)
    before = live(own)
    tensors = load_file(weights)
    tensors["model.norm.weight"][:] = torch.nan
    save_file(tensors, weights, metadata={"format": "pt"})
    # Train as a first version: with a parent, the check of the base model's revision would fail first.
    with pytest.raises(TrainingError, match="Expected a finite loss"):
        train_step.train(own.resources, replace(dataset, parent=None), replace(fisher, uri=None))
    assert live(own) == before


@pytest.mark.stack
def test_the_report_mentions_smaller_batches(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LlamaModel.forward

    def small(self: LlamaModel, input_ids: torch.Tensor, **named: object) -> object:
        # Gradients take most of the memory.
        if input_ids.numel() > (60 if torch.is_grad_enabled() else 400):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, input_ids, **named)

    loop.teach(0)
    monkeypatch.setattr(LlamaModel, "forward", small)
    version = loop.learn(week(0))
    (note,) = [note for note in version.report.notes if note.startswith("Out of memory at training.batch_size 8")]
    assert "the same rows a step" in note
    assert version.report.loss is not None
