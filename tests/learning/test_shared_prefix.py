"""Rows with the same beginning, such as a system prompt, run it once and lose nothing."""

import datasets
import pytest
import torch
from torch.nn import functional

from learning_engine.config import sections
from learning_engine.learning import fisher, packing
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import lora_weights
from tests.learning.test_packing import task_losses

PREFIX = [5, 9, 4, 7, 6, 8]


@pytest.fixture
def alike(examples):
    """Twelve rows that begin with PREFIX; every fourth has no supervised token."""

    def begin(row):
        labels = row["labels"] if row["row"] % 4 else [-100] * len(row["labels"])
        return {"input_ids": PREFIX + row["input_ids"], "labels": [-100] * len(PREFIX) + labels}

    return examples.select(range(12)).map(begin)


@pytest.fixture
def twins(load, adapter):
    """The same model twice: only the first can run packed."""
    packed, padded = (load(adapter, lora={"dropout": 0.0}) for _ in range(2))
    padded.model.base_model.model.set_attn_implementation("sdpa")
    return packed, padded


def batch_of(rows: datasets.Dataset):
    return collate([Rows(rows)[index] for index in range(len(rows))])


def loss_and_gradients(loaded, batch):
    logits, tokens, _ = supervised_logits(loaded.model, batch["input_ids"], batch["labels"])
    losses = functional.cross_entropy(logits, tokens, reduction="none")
    weights = list(lora_weights(loaded.model).values())
    return losses.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(losses.sum(), weights)])


def widths(loaded, run):
    """The tokens that reach the model's layers, in each of its forward passes during `run`."""
    found = []
    layer = loaded.model.base_model.model.model.layers[0].mlp
    handle = layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].shape[:2].numel()))
    run()
    handle.remove()
    return found


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_are_those_of_padded_rows(twins, alike, dtype, close, checkpointing):
    found = []
    for loaded in twins:
        loaded.model.to(dtype)
        if checkpointing:
            loaded.model.train()
            loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
        found.append(loss_and_gradients(loaded, batch_of(alike)))
    (ours, gradient), (theirs, their_gradient) = found
    torch.testing.assert_close(ours, theirs, rtol=close, atol=close)
    # Llama's norms compute in float32, so gradients that are summed before them differ by its rounding.
    assert (gradient - their_gradient).norm() < max(close, 1e-7) * their_gradient.norm()


def test_the_beginning_is_computed_once(twins, alike):
    packed, _ = twins
    batch = batch_of(alike)
    shared = packing.shared_prefix(batch["input_ids"], batch["labels"][:, 1:] != -100)
    assert shared >= len(PREFIX)
    rows = [labels for labels in alike["labels"] if any(label != -100 for label in labels)]
    last = [max(place for place, label in enumerate(labels) if label != -100) for labels in rows]
    assert 3 < len(rows) < 12
    assert widths(packed, lambda: loss_and_gradients(packed, batch)) == [sum(last) - shared * (len(rows) - 1)]


def test_no_supervised_token_is_shared(twins):
    """Two equal rows share what comes before the first token that predicts a supervised one."""
    packed, padded = twins
    ids = torch.tensor([PREFIX, PREFIX])
    labels = torch.tensor([[-100, -100, -100, *PREFIX[3:]]] * 2)
    assert packing.shared_prefix(ids, labels[:, 1:] != -100) == 2
    ours, theirs = (supervised_logits(loaded.model, ids, labels) for loaded in (packed, padded))
    torch.testing.assert_close(ours[0], theirs[0])
    assert torch.equal(ours[2], theirs[2])


def test_fisher_information_of_each_row_includes_its_beginning(twins, alike):
    for loaded in twins:
        loaded.model.double()
    settings = sections.Fisher(batch_size=8)
    ours, theirs = (fisher.compute(loaded, alike, settings, seed=0, guards="v1.0").tensors for loaded in twins)
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() < 1e-10 * tensor.norm(), name


@pytest.mark.parametrize("objective", ["sft_npo", "kto"])
def test_training_gives_the_same_losses(twins, alike, tmp_path, objective):
    settings = sections.Training(objective=objective, batch_size=4, epochs=2, learning_rate=3e-3, log_steps=1)
    ours, theirs = (task_losses(loaded, alike, settings, tmp_path / str(id(loaded))) for loaded in twins)
    assert ours == pytest.approx(theirs, abs=1e-5)
