"""A world to learn: a base model with some knowledge, and weeks of new data."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from learning_engine.learning.batches import Rows, collate, longest_first
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded
from learning_engine.records.contracts import LoraShape

Score = Callable[[Any, datasets.Dataset], float]


@dataclass(frozen=True)
class World:
    """`known` is the base's training data and `weeks` the data that follows; `known_test` and `tests` test them.

    `load(seed)` gives the base with a new adapter. A higher `score(model, rows)` is better. Each week trains for
    `steps` optimizer steps.
    """

    load: Callable[[int], Loaded]
    known: datasets.Dataset
    known_test: datasets.Dataset
    weeks: tuple[datasets.Dataset, ...]
    tests: tuple[datasets.Dataset, ...]
    score: Score
    steps: int
    batch_size: int


def adapter_loader(base: Path, layers: Sequence[str], *, rank: int) -> Callable[[int], Loaded]:
    """A loader of the model in `base` with a new adapter on the linear `layers`, α = 2 · rank, no dropout."""

    def load(seed: int) -> Loaded:
        shape = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(layers), task_type="CAUSAL_LM")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft_model = get_peft_model(LlamaForCausalLM.from_pretrained(base), shape).eval()
        lora = LoraShape(rank, float(2 * rank), tuple(layers))
        return Loaded(peft_model, None, torch.device("cpu"), "", str(base), lora)

    return load


def shuffled(parts: Sequence[datasets.Dataset], *, seed: int) -> datasets.Dataset:
    """The rows of all `parts` in one shuffled order."""
    rows = datasets.concatenate_datasets(list(parts))
    return rows.select(np.random.default_rng(seed).permutation(len(rows)))


@dataclass(frozen=True)
class Pretraining:
    """How a base model is trained from scratch: AdamW with warmup and a cosine schedule."""

    steps: int
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 30


def make_base(
    directory: Path,
    vocabulary: int,
    rows: datasets.Dataset,
    pretraining: Pretraining,
    *,
    seed: int,
    **shape: Any,
) -> Path:
    """Train a Llama of `shape`, with `vocabulary` tokens, on `rows` and save it in `directory`, if that is absent."""
    if directory.exists():
        return directory
    disable_progress_bar()
    config = LlamaConfig(
        vocab_size=vocabulary,
        tie_word_embeddings=False,
        dtype="float32",
        bos_token_id=None,
        eos_token_id=None,
        **shape,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        llama = LlamaForCausalLM(config)
    _pretrain(llama, Rows(rows), pretraining, np.random.default_rng(seed))
    partial = directory.with_name(f"{directory.name}.part")
    llama.save_pretrained(partial)
    partial.rename(directory)
    return directory


def _pretrain(llama: Any, rows: Rows, pretraining: Pretraining, rng: np.random.Generator) -> None:
    optimizer = torch.optim.AdamW(llama.parameters(), lr=pretraining.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / pretraining.warmup_steps)
            * (0.05 + 0.475 * (1 + math.cos(math.pi * step / pretraining.steps)))
        ),
    )
    llama.train()
    for _ in range(pretraining.steps):
        batch = collate([rows[index] for index in rng.choice(len(rows), pretraining.batch, replace=False)])
        logits, tokens, _ = supervised_logits(llama, batch["input_ids"], batch["labels"])
        functional.cross_entropy(logits, tokens).backward()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


@torch.no_grad()
def row_accuracy(llama: Any, rows: datasets.Dataset) -> float:
    """The share of rows in which every supervised token is the model's first choice."""
    right = 0
    for logits, tokens, owner in _predictions(llama, rows):
        wrong = torch.bincount(owner, (logits.argmax(-1) != tokens).double())
        right += int((wrong == 0).sum())
    return right / len(rows)


@torch.no_grad()
def token_accuracy(llama: Any, rows: datasets.Dataset) -> float:
    """The share of supervised tokens that are the model's first choice."""
    found = [logits.argmax(-1) == tokens for logits, tokens, _ in _predictions(llama, rows)]
    return float(torch.cat(found).float().mean())


@torch.no_grad()
def negative_bits(llama: Any, rows: datasets.Dataset) -> float:
    """−(bits per supervised token), so that higher is better."""
    found = [
        functional.cross_entropy(logits, tokens, reduction="none") for logits, tokens, _ in _predictions(llama, rows)
    ]
    return -float(torch.cat(found).mean()) / math.log(2)


def _predictions(llama: Any, examples: datasets.Dataset) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Per batch, at the supervised tokens: logits, observed tokens, and each token's row in the batch."""
    rows = Rows(examples)
    for indices in longest_first(rows.lengths, np.arange(len(rows)), batch_size=128):
        batch = collate([rows[index] for index in indices])
        yield supervised_logits(llama, batch["input_ids"], batch["labels"])
