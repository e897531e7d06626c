"""Text from any Python installation, as bytes: source code and prose for the base, four different kinds for the weeks.

The weeks: names of Unicode characters, disassembled functions, decompositions of characters, HTML entities.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import dis
import html.entities
import importlib
import io
import pydoc_data.topics
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np

SOURCES = ("argparse", "ast", "asyncio.base_events", "configparser", "datetime", "doctest", "email.message", "inspect")
DISASSEMBLED = ("json.decoder", "textwrap", "shutil", "csv", "string", "calendar", "heapq", "statistics")
VOCABULARY = 256


def code() -> str:
    """Python source of the standard library."""
    return "".join(Path(str(importlib.import_module(name).__file__)).read_text("utf-8") for name in SOURCES)


def prose() -> str:
    """The Python language reference, as `help` shows it."""
    return "".join(pydoc_data.topics.topics.values())


def character_names() -> str:
    lines = (
        f"U+{number:04X} {unicodedata.name(chr(number))}\n"
        for number in range(0x20, 0x3000)
        if unicodedata.name(chr(number), "")
    )
    return "".join(lines)


def disassembly() -> str:
    out = io.StringIO()
    for name in DISASSEMBLED:
        dis.dis(importlib.import_module(name), file=out)
    return out.getvalue()


def entities() -> str:
    return "".join(f"&{name} {text.encode('unicode_escape').decode()}\n" for name, text in html.entities.html5.items())


def decompositions() -> str:
    lines = (f"{number:04X} {unicodedata.decomposition(chr(number))}\n" for number in range(0xA0, 0x10000))
    return "".join(line for line in lines if len(line) > 6)


KNOWN, WEEKS = (code, prose), (character_names, disassembly, decompositions, entities)


def rows(text: str, *, window: int, counts: Sequence[int], seed: int) -> list[datasets.Dataset]:
    """Disjoint pieces of `window` bytes, in groups of the sizes `counts`; every byte but the first is supervised."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    pieces = ids[: len(ids) // window * window].reshape(-1, window)
    if len(pieces) < sum(counts):
        raise ValueError(f"Expected {sum(counts)} pieces of {window} bytes, found {len(pieces)}: use a longer text")
    order = np.random.default_rng(seed).permutation(len(pieces))
    groups = np.split(order[: sum(counts)], np.cumsum(counts)[:-1])
    return [_dataset(pieces[group]) for group in groups]


def _dataset(pieces: np.ndarray) -> datasets.Dataset:
    ids, count = pieces.tolist(), len(pieces)
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": ids, "weight": [1.0] * count, "rating": [1] * count})
