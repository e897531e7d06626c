"""Read the header of a safetensors file without mapping it, and check it: mapping a truncated file crashes the server.

Format (github.com/huggingface/safetensors): 8 bytes little-endian length n, n bytes of JSON, then the data. Each
tensor's `data_offsets` count from the start of the data. Together they must cover it without gap or overlap.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from learning_engine.errors import PreflightError

# MAX Serve refuses bfloat16 adapters.
ITEM_BYTES = {"F32": 4, "F16": 2}
# The exponent bits; if all are set, the value is infinite or NaN.
EXPONENT = {"F32": 0x7F80_0000, "F16": 0x7C00}
MAX_HEADER_BYTES = 100_000_000
CHUNK_ITEMS = 1 << 22


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; `start` (from the beginning of the file) and `size` are in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(path: Path) -> list[Tensor]:
    """The tensors of a safetensors file in the order of their data. Raises PreflightError if the file is malformed."""
    length = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if length < 8 or header_bytes > min(length - 8, MAX_HEADER_BYTES):
            raise _broken(path, f"a header of {header_bytes} bytes in a file of {length}")
        header = parse_json(file.read(header_bytes), path)
    header.pop("__metadata__", None)
    data = 8 + header_bytes
    tensors = sorted((_tensor(path, name, entry, data) for name, entry in header.items()), key=lambda t: t.start)
    end = data
    for tensor in tensors:
        if tensor.start != end:
            raise _broken(path, f"{tensor.name} at byte {tensor.start} instead of {end}")
        end += tensor.size
    if end != length:
        raise _broken(path, f"data that end at byte {end} in a file of {length} bytes")
    return tensors


def all_finite(path: Path, tensor: Tensor) -> bool:
    """Whether no value is infinite or NaN; reads in constant memory."""
    kind = np.dtype(f"<u{ITEM_BYTES[tensor.dtype]}")
    mask, left, offset = EXPONENT[tensor.dtype], tensor.size // kind.itemsize, tensor.start
    while left:
        bits = np.fromfile(path, dtype=kind, count=min(left, CHUNK_ITEMS), offset=offset)
        if bool(np.any((bits & mask) == mask)):
            return False
        left, offset = left - bits.size, offset + bits.nbytes
    return True


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object and refuse duplicate keys, since parsers differ in which value they use."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        body = dict(pairs)
        if len(body) != len(pairs):
            raise ValueError("a duplicate key")
        return body

    try:
        body = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"unreadable JSON ({error})") from None
    if not isinstance(body, dict):
        raise _broken(path, f"JSON of type {type(body).__name__} instead of an object")
    return body


def _tensor(path: Path, name: str, entry: Any, data: int) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        integers = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        known = dtype in ITEM_BYTES
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"no dtype, shape and data_offsets for {name}") from None
    if not integers:
        raise _broken(path, f"shape {list(shape)} and offsets [{begin}, {end}] for {name}")
    if not known:
        raise PreflightError(f"{path.name}: expected {name} as one of {', '.join(ITEM_BYTES)}, found {dtype!r}.")
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        raise _broken(path, f"{end - begin} bytes for {name} of type {dtype} and shape {list(shape)}")
    return Tensor(name, dtype, shape, data + begin, end - begin)


def _broken(path: Path, found: str) -> PreflightError:
    return PreflightError(f"{path.name}: expected a complete, well-formed file, found {found}: rebuild the archive.")
