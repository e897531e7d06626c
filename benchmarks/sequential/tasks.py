"""Classification tasks from a directory: prompts and answers as examples for this package's trainer.

A task is one file, `NAME.json`: {"kind", "labels", "train": [{"sentence", "label"}], "test": […]}. Instructions, and
the options before the text, are worded as in O-LoRA's benchmark (arXiv 2310.14152).
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.config import sections
from learning_engine.feedback import dataset

INSTRUCTIONS = {
    "TC": "What is the topic of the following paragraph? Choose one from the option.",
    "SC": "What is the sentiment of the following paragraph? Choose one from the option.",
    "QQP": 'Whether the "first sentence" and the "second sentence" have the same meaning? Choose one from the option.',
}
# The last rows of "train" are the development part: settings are chosen on them, and nothing is ever trained on them.
DEVELOPMENT = 120


@dataclass(frozen=True)
class Questions:
    """Prompts (token ids), the answers to choose from, each with its end of turn, and the place of the right one."""

    prompts: list[list[int]]
    answers: list[list[int]]
    right: list[int]


@dataclass(frozen=True)
class Task:
    name: str
    train: datasets.Dataset
    test: Questions


def read(
    directory: Path, name: str, tokenizer: Any, *, rows: int | None, test_rows: int | None, development: bool
) -> Task:
    """A task with `rows` rows to train on and `test_rows` to test on (None: all), the labels equally often.

    With `development`, the test rows come from the development part. Raises ValueError if a row cannot be encoded.
    """
    found = json.loads((directory / f"{name}.json").read_text("utf-8"))
    kept = max(len(found["train"]) // 2, len(found["train"]) - DEVELOPMENT)
    ask = f"{INSTRUCTIONS[found['kind']]}\nOption: {', '.join(found['labels'])}\n"
    train = balanced(found["train"][:kept], rows)
    test = balanced(found["train"][kept:] if development else found["test"], test_rows)
    answers = [{"sentence": "", "label": label} for label in found["labels"]]
    examples = _encode([*train, *test, *answers], ask, tokenizer)
    columns = examples[len(train) :]
    starts, ids = columns["prompt_length"], columns["input_ids"]
    questions = Questions(
        [row[:start] for row, start in zip(ids, starts, strict=True)][: len(test)],
        [row[start:] for row, start in zip(ids, starts, strict=True)][len(test) :],
        [found["labels"].index(row["label"]) for row in test],
    )
    return Task(name, examples.select(range(len(train))), questions)


def balanced(rows: Sequence[dict[str, str]], count: int | None) -> list[dict[str, str]]:
    """The first `count` rows if the labels take turns in the order of their first row (None: all rows)."""
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_label[row["label"]].append(row)
    turns = chain.from_iterable(zip_longest(*by_label.values()))
    return [row for row in turns if row is not None][:count]


def _encode(rows: Sequence[dict[str, str]], ask: str, tokenizer: Any) -> datasets.Dataset:
    """The rows as liked answers, through the encoder that a window of feedback goes through."""
    records = [
        {
            "messages": [{"role": "user", "content": ask + row["sentence"].strip()}],
            "answer": row["label"],
            "rating": 1,
            "heldout": False,
        }
        for row in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(records), path)
        encoded = dataset.encode(path, tokenizer, sections.Dataset(), heldout=None)
    if encoded.dropped:
        raise ValueError(f"Expected to encode all {len(rows)} rows, found some that cannot be: {encoded.dropped}")
    return encoded.examples
