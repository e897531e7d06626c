"""What is to be learned: a base model that knows something, and weeks of what it does not know yet."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from learning_engine import sections
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits

Score = Callable[[Any, datasets.Dataset], float]


@dataclass(frozen=True)
class World:
    """`known` is what the base was trained on and `weeks` what comes after, each with rows that test it.

    `score(model, rows)` is the higher the better. A week is `steps` optimizer steps.
    """

    base: Path
    lora: sections.Lora
    known: datasets.Dataset
    known_test: datasets.Dataset
    weeks: tuple[datasets.Dataset, ...]
    tests: tuple[datasets.Dataset, ...]
    score: Score
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Schooling:
    """How a base model is trained from nothing: AdamW, warmed up, lowered along a cosine."""

    steps: int
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 30


def make_base(
    directory: Path,
    tokenizer: PreTrainedTokenizerFast,
    rows: datasets.Dataset,
    schooling: Schooling,
    *,
    seed: int,
    **shape: Any,
) -> Path:
    """Train a Llama of `shape` on `rows` and write it to `directory`, unless it lies there already."""
    if directory.exists():
        return directory
    disable_progress_bar()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
        bos_token_id=None,
        eos_token_id=None,
        **shape,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    _school(model, Rows(rows), schooling, np.random.default_rng(seed))
    partial = directory.with_name(f"{directory.name}.part")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(directory)
    return directory


def _school(model: Any, rows: Rows, schooling: Schooling, chance: np.random.Generator) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=schooling.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / schooling.warmup_steps)
            * (0.05 + 0.475 * (1 + math.cos(math.pi * step / schooling.steps)))
        ),
    )
    model.train()
    for _ in range(schooling.steps):
        batch = collate([rows[index] for index in chance.choice(len(rows), schooling.batch, replace=False)])
        logits, tokens, _ = supervised_logits(model, batch["input_ids"], batch["labels"])
        functional.cross_entropy(logits, tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


@torch.no_grad()
def accuracy(model: Any, rows: datasets.Dataset) -> float:
    """The share of rows whose supervised tokens are all the model's first choice."""
    found, right = Rows(rows), 0
    for start in range(0, len(found), 256):
        batch = collate([found[index] for index in range(start, min(start + 256, len(found)))])
        logits, tokens, owner = supervised_logits(model, batch["input_ids"], batch["labels"])
        wrong = torch.zeros(len(batch["index"])).index_add_(0, owner, (logits.argmax(-1) != tokens).float())
        right += int((wrong == 0).sum())
    return right / len(found)


@torch.no_grad()
def bits(model: Any, rows: datasets.Dataset) -> float:
    """−(bits per supervised token), so that more is better."""
    found, total, count = Rows(rows), 0.0, 0
    for start in range(0, len(found), 64):
        batch = collate([found[index] for index in range(start, min(start + 64, len(found)))])
        logits, tokens, _ = supervised_logits(model, batch["input_ids"], batch["labels"])
        total += float(functional.cross_entropy(logits, tokens, reduction="sum"))
        count += len(tokens)
    return -total / count / math.log(2)
