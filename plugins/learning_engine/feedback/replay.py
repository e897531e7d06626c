"""Replay: a few liked rows of each window, kept to be trained on again beside later windows.

The reservoir of a window holds its liked rows with the smallest sha256 of seed and message: a draw without replacement
that depends on the rows alone, never on their order. Beside them it holds the disliked rows of messages that an earlier
window kept: these are never trained on again, and end the replay of what users think otherwise of now.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.snapshot import is_heldout
from learning_engine.feedback.table import SCHEMA, writing

KEPT = ("message", "conversation", "rating")
DECIDING = ("message", "conversation", "created_at", "user", "rating", "heldout")


def draw(snapshot: Path, target: Path, *, size: int, seed: int, earlier: Sequence[Path] = ()) -> int:
    """Write at most `size` liked rows of `snapshot` that are not held out to `target`, in their order, and the disliked
    ones that the reservoirs `earlier` hold; returns how many.

    No liked message twice, and no second row of a conversation while there are others.
    """
    chosen = {*_chosen(snapshot, seed)[:size], *_withdrawn(snapshot, earlier)}
    start = 0
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            file.write(batch.filter(pa.array([start + row in chosen for row in range(batch.num_rows)], pa.bool_())))
            start += batch.num_rows
    return len(chosen)


def join(snapshot: Path, reservoirs: Sequence[Path], target: Path, *, heldout_fraction: float) -> int:
    """Write the rows of `snapshot`, and after them those of `reservoirs`, to `target`; returns how many of the latter.

    `reservoirs` are ordered by time. Left out are messages that stand in `snapshot` or a later reservoir, where users
    have said anew what they think of them; and conversations that would be held out now, whatever the fraction was at
    their draw.
    """
    replayed, seen = 0, set[str]()
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            seen.update(batch.column("message").to_pylist())
            file.write(batch)
        for batch in (batch for reservoir in reversed(reservoirs) for batch in _batches(reservoir)):
            wanted = []
            for message, conversation, rating in zip(*(batch.column(name).to_pylist() for name in KEPT), strict=True):
                anew = message not in seen and rating > 0
                wanted.append(anew and not is_heldout(conversation, heldout_fraction))
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


def _withdrawn(snapshot: Path, earlier: Sequence[Path]) -> list[int]:
    """The rows of `snapshot`, by index, whose message stands in `earlier` and is now disliked by all who rated it."""
    known = {message for path in earlier for batch in _batches(path) for message in batch.column("message").to_pylist()}
    table = pq.read_table(snapshot, columns=["message", "rating"])
    rated = list(zip(table["message"].to_pylist(), table["rating"].to_pylist(), strict=True))
    liked = {message for message, rating in rated if rating > 0}
    return [row for row, (message, _) in enumerate(rated) if message in known and message not in liked]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
