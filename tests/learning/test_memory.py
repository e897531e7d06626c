"""Out of memory: each step uses the same rows in smaller micro-batches, or an error says what to set.

No GPU is needed: a hook on the model's forward pass raises CUDA's error above a given number of tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import OutOfMemory
from learning_engine.learning import fisher, memory
from learning_engine.learning.batches import LengthGroupedSampler, MicroBatchSampler
from learning_engine.learning.model import Loaded, lora_weights
from tests.learning.test_trainer import train

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB."


@contextmanager
def room(loaded: Loaded, tokens: int, *, after: int = 0) -> Iterator[list[int]]:
    """Allow at most `tokens` tokens per forward pass, after the first `after` passes; yields the sizes that failed."""
    seen, failed = [0], []

    def full(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        seen[0] += 1
        if ids.numel() > tokens and seen[0] > after:
            failed.append(ids.numel())
            raise torch.OutOfMemoryError(CUDA)

    hook = loaded.model.base_model.model.model.register_forward_pre_hook(full, with_kwargs=True)
    try:
        yield failed
    finally:
        hook.remove()


@pytest.mark.parametrize("objective", [pytest.param("weighted_sft", marks=pytest.mark.stack), "kto"])
def test_smaller_micro_batches_keep_the_rows_of_each_step(
    load: Any, adapter: Path, examples: Any, tmp_path: Path, objective: str
):
    loaded = load(adapter, lora={"dropout": 0.0})
    whole = train(loaded, examples, tmp_path / "whole", objective=objective)
    wanted = {name: weight.detach().clone() for name, weight in lora_weights(loaded.model).items()}
    short = load(adapter, lora={"dropout": 0.0})
    with room(short, 2 * max(map(len, examples["input_ids"]))) as failed:
        metrics = train(short, examples, tmp_path / "short", objective=objective)
    assert failed
    assert metrics.steps == whole.steps
    assert [loss for _, loss, _ in metrics.curve] == pytest.approx([loss for _, loss, _ in whole.curve], abs=1e-5)
    for name, weight in lora_weights(short.model).items():
        torch.testing.assert_close(weight, wanted[name], atol=1e-4, rtol=1e-3)
    (note,) = [note for note in metrics.notes if note.startswith("Out of memory at training.batch_size 8")]
    assert "batch_size 2 and gradient_accumulation 4" in note or "batch_size 4 and gradient_accumulation 2" in note
    assert not any("Out of memory" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("every", "resumed"),
    [
        pytest.param(4, 4, id="from a checkpoint"),
        pytest.param(200, 0, id="from the beginning", marks=pytest.mark.stack),
    ],
)
def test_training_that_ran_out_of_memory_ends_with_the_same_losses(
    load: Any, examples: Any, tmp_path: Path, every: int, resumed: int
):
    loaded = load(lora={"dropout": 0.0})
    whole = train(loaded, examples, tmp_path / "whole", checkpoint_steps=every)
    short = load(lora={"dropout": 0.0})
    # One forward pass per step: the seventh fails.
    with room(short, 2 * max(map(len, examples["input_ids"])), after=6) as failed:
        metrics = train(short, examples, tmp_path / "short", checkpoint_steps=every)
    assert failed
    assert (metrics.resumed_at_step, metrics.steps) == (resumed, whole.steps)
    assert [loss for _, loss, _ in metrics.curve] == pytest.approx([loss for _, loss, _ in whole.curve], abs=1e-5)


def test_the_error_for_one_row_that_does_not_fit_names_what_to_set(load: Any, examples: Any, tmp_path: Path):
    loaded = load()
    with room(loaded, 1), pytest.raises(OutOfMemory) as caught:
        train(loaded, examples, tmp_path, gradient_accumulation=2)
    longest = max(map(len, examples["input_ids"]))
    assert f"rows of up to {longest} tokens with one row at a time" in str(caught.value)
    assert "training.batch_size to 1 and training.gradient_accumulation to 16" in str(caught.value)
    assert "CUDA out of memory" in str(caught.value)
    assert caught.value.retryable, "what shared the device may be gone by then"


def test_the_fisher_information_of_halved_batches_is_the_same(load: Any, adapter: Path, examples: Any):
    loaded = load(adapter)
    settings = sections.Fisher(batch_size=8, draws=1)
    whole = fisher.compute(loaded, examples, settings, seed=0, guards="v1.0")
    with room(loaded, 3 * max(map(len, examples["input_ids"]))) as failed:
        halved = fisher.compute(loaded, examples, settings, seed=0, guards="v1.0")
    assert failed
    assert halved.n_tokens == whole.n_tokens
    for name, tensor in whole.tensors.items():
        torch.testing.assert_close(halved.tensors[name], tensor, atol=1e-6, rtol=1e-3)


def test_other_errors_are_not_taken_for_lack_of_memory():
    def attempt(_: int) -> None:
        raise RuntimeError("The size of tensor a must match the size of tensor b.")

    with pytest.raises(RuntimeError, match="must match"):
        memory.retry_with_smaller_batches(attempt, batch_size=8, what="add", advice="")


def test_a_failed_allocation_on_the_cpu_counts_as_lack_of_memory():
    tried: list[int] = []

    def attempt(at_once: int) -> int:
        tried.append(at_once)
        torch.empty(2**60 if at_once > 1 else 1)
        return at_once

    assert memory.retry_with_smaller_batches(attempt, batch_size=6, what="hold a tensor", advice="") == 1
    assert tried == [6, 3, 1]


def test_the_memory_limit_is_set_on_every_gpu(monkeypatch: pytest.MonkeyPatch):
    bounds: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: bounds.append((fraction, device))
    )
    memory.limit(0.4)
    assert bounds == [(0.4, 0), (0.4, 1)]


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_the_micro_batches_of_a_batch_make_up_the_batch(parts: int):
    lengths = np.random.default_rng(0).integers(5, 500, size=37)
    whole = list(LengthGroupedSampler(lengths, batch_size=8, seed=3))
    sampler = MicroBatchSampler(LengthGroupedSampler(lengths, batch_size=8, seed=3), batch_size=8, parts=parts)
    micro = list(sampler)
    assert len(sampler) == len(micro)
    assert [row for part in micro for row in part] == whole
    assert max(map(len, micro)) == -(-8 // parts)
    for batch in range(4):
        assert sum(map(len, micro[batch * parts : (batch + 1) * parts])) == 8
