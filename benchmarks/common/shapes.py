"""Llama models with random weights and a LoRA adapter, and random feedback of varying length.

Speed and exactness do not depend on what a model knows, so no trained weights are needed. B is not zero.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from learning_engine.learning.batches import IGNORED
from learning_engine.learning.model import Loaded, lora_weights
from learning_engine.records.contracts import LoraShape

RANK, ALPHA = 16, 32
TARGETS = ("k_proj", "o_proj", "q_proj", "v_proj")


@dataclass(frozen=True)
class Shape:
    """The sizes that determine a Llama's cost. `dtype` is the base's; the adapter is float32, or float64 if it is."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    dtype: torch.dtype = torch.float32


TINY = Shape(layers=2, hidden=32, intermediate=64, heads=4, kv_heads=2, vocabulary=97)
# Grouped-query attention and proportions as in Llama 3, at a width that two cores can run.
SMALL = Shape(layers=8, hidden=512, intermediate=1376, heads=8, kv_heads=4, vocabulary=32_000)
BILLION_1_5 = Shape(28, 1536, 8960, 12, 2, 151_936, torch.bfloat16)
BILLION_8 = Shape(32, 4096, 14_336, 32, 8, 128_256, torch.bfloat16)


def loaded(shape: Shape, *, device: str, seed: int, targets: tuple[str, ...] = TARGETS, rank: int = RANK) -> Loaded:
    """A peft.PeftModel of `shape` in eval mode, without dropout, its adapter trainable. Deterministic in `seed`."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        initializer_range=0.5 / shape.hidden**0.25 if shape.hidden < 256 else 0.02,
        tie_word_embeddings=False,
    )
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), bias="none", task_type="CAUSAL_LM")
    with torch.random.fork_rng(), torch.device(device), _default_dtype(shape.dtype):
        torch.manual_seed(seed)
        model = get_peft_model(LlamaForCausalLM(config), lora)
        with torch.no_grad():
            for weight in lora_weights(model).values():
                weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5)
    about = LoraShape(rank, 2.0 * rank, targets)
    return Loaded(model.eval(), None, torch.device(device), f"seed {seed}", "random", about)


def feedback(n: int, *, tokens: float, share: float, vocabulary: int, seed: int, prefix: int = 0) -> datasets.Dataset:
    """`n` rows of log-normal length, `tokens` on average; the last `share` of each is supervised, with weight 1.

    Before each of them come `prefix` tokens, the same for all rows, like a system prompt.
    """
    generator = np.random.default_rng(seed)
    spread = generator.lognormal(sigma=0.6, size=n)
    lengths = np.maximum(4, np.round(spread * tokens / spread.mean())).astype(int)
    rows, begin = [], generator.integers(0, vocabulary, prefix).tolist()
    for length in lengths:
        ids = begin + generator.integers(0, vocabulary, length).tolist()
        prompt = len(ids) - max(1, round(share * length))
        row = {"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:], "weight": 1.0, "rating": 1}
        rows.append(row)
    return datasets.Dataset.from_list(rows)


def describe(shape: Shape, rows: datasets.Dataset, *, batch: int) -> str:
    """One line about model and data, for a table's title."""
    lengths = [len(ids) for ids in rows["input_ids"]]
    supervised = sum(label != IGNORED for labels in rows["labels"] for label in labels)
    return (
        f"{shape.layers} layers of {shape.hidden}, vocabulary {shape.vocabulary:,}, {str(shape.dtype)[6:]}; "
        f"{len(lengths)} sequences of {np.mean(lengths):.0f} tokens on average ({min(lengths)} to {max(lengths)}), "
        f"{supervised / sum(lengths):.0%} supervised; batches of {batch}"
    )


def for_arguments(arguments: Any, default: Shape) -> Shape:
    """The shape for the chosen device: on a GPU 1.5 billion weights, with --full 8 billion."""
    if arguments.tiny:
        return TINY
    if arguments.device == "cuda":
        return BILLION_8 if arguments.full else BILLION_1_5
    return default


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
