"""Replay: a few liked rows of each window, kept to be trained on again beside later windows.

The reservoir of a window holds its rows with the smallest sha256 of seed and message: a draw without replacement that
depends on the rows alone, never on their order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.snapshot import is_heldout
from learning_engine.feedback.table import SCHEMA, writing

PLACE = ("message", "conversation")
DECIDING = (*PLACE, "created_at", "user", "rating", "heldout")


def draw(snapshot: Path, target: Path, *, size: int, seed: int) -> int:
    """Write at most `size` liked rows of `snapshot` that are not held out to `target`, in their order; returns how
    many. No message twice, and no second row of a conversation while there are others.
    """
    chosen = set(_chosen(snapshot, seed)[:size])
    start = 0
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            file.write(batch.filter(pa.array([start + row in chosen for row in range(batch.num_rows)], pa.bool_())))
            start += batch.num_rows
    return len(chosen)


def join(snapshot: Path, reservoirs: Sequence[Path], target: Path, *, heldout_fraction: float) -> int:
    """Write the rows of `snapshot`, and after them those of `reservoirs`, to `target`; returns how many of the latter.

    Left out of the latter are messages that stand in `snapshot`, where users have said anew what they think of them, or
    in an earlier reservoir; and conversations that would be held out now, whatever the fraction was at their draw.
    """
    replayed, seen = 0, set[str]()
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            seen.update(batch.column("message").to_pylist())
            file.write(batch)
        for batch in (batch for reservoir in reservoirs for batch in _batches(reservoir)):
            wanted = []
            for message, conversation in zip(*(batch.column(name).to_pylist() for name in PLACE), strict=True):
                wanted.append(message not in seen and not is_heldout(conversation, heldout_fraction))
                seen.add(message)
            file.write(batch.filter(pa.array(wanted, pa.bool_())))
            replayed += sum(wanted)
    return replayed


def _chosen(snapshot: Path, seed: int) -> list[int]:
    """The rows that may be drawn, by index, in the order in which they are."""
    table = pq.read_table(snapshot, columns=list(DECIDING))
    columns = (table[name].to_pylist() for name in DECIDING)
    candidates = sorted(
        (hashlib.sha256(f"{seed} {message}".encode()).hexdigest(), created_at, user or "", row, message, conversation)
        for row, (message, conversation, created_at, user, rating, heldout) in enumerate(zip(*columns, strict=True))
        if rating > 0 and not heldout
    )
    first: list[int] = []
    further: list[int] = []
    messages, conversations = set[str](), set[str]()
    for *_, row, message, conversation in candidates:
        if message not in messages:
            (further if conversation in conversations else first).append(row)
        messages.add(message)
        conversations.add(conversation)
    return first + further


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
