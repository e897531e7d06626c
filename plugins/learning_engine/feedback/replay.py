"""Replay: keep a few liked rows of each window and train on them again together with later windows.

A window's reservoir holds its liked rows with the smallest sha256 of seed and message: a draw without replacement that
does not depend on the order of the rows. It also holds disliked rows whose message an earlier reservoir contains.
These are never trained on; they end the replay of messages that users no longer like.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.snapshot import is_heldout
from learning_engine.feedback.table import SCHEMA, writing

JOIN_COLUMNS = ("message", "conversation", "rating")
SELECTION_COLUMNS = ("message", "conversation", "created_at", "user", "rating", "heldout")


def draw(snapshot: Path, target: Path, *, size: int, seed: int, earlier: Sequence[Path] = ()) -> int:
    """Write a reservoir to `target`, in snapshot order; return its number of rows.

    It holds at most `size` liked rows of `snapshot` that are not held out, and the disliked rows whose message is in
    the reservoirs `earlier`. No liked message is drawn twice, and no conversation gives a second row before every
    conversation has given one.
    """
    chosen = {*_chosen(snapshot, seed)[:size], *_withdrawn(snapshot, earlier)}
    start = 0
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            file.write(batch.filter(pa.array([start + row in chosen for row in range(batch.num_rows)], pa.bool_())))
            start += batch.num_rows
    return len(chosen)


def join(snapshot: Path, reservoirs: Sequence[Path], target: Path, *, heldout_fraction: float) -> int:
    """Write the rows of `snapshot`, then those of `reservoirs`, to `target`; return the number of replayed rows.

    `reservoirs` are ordered by time. A message is left out if it also appears in `snapshot` or in a later reservoir,
    since the newer ratings count. So is a conversation that would be held out now, even if the fraction was different
    when it was drawn.
    """
    replayed, seen = 0, set[str]()
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            seen.update(batch.column("message").to_pylist())
            file.write(batch)
        for batch in (batch for reservoir in reversed(reservoirs) for batch in _batches(reservoir)):
            wanted = []
            for message, conversation, rating in zip(
                *(batch.column(name).to_pylist() for name in JOIN_COLUMNS), strict=True
            ):
                replayable = message not in seen and rating > 0
                wanted.append(replayable and not is_heldout(conversation, heldout_fraction))
                seen.add(message)
            file.write(batch.filter(pa.array(wanted, pa.bool_())))
            replayed += sum(wanted)
    return replayed


def _chosen(snapshot: Path, seed: int) -> list[int]:
    """The indices of the rows that may be drawn, in the order in which they are drawn."""
    table = pq.read_table(snapshot, columns=list(SELECTION_COLUMNS))
    columns = (table[name].to_pylist() for name in SELECTION_COLUMNS)
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
    """The indices of the rows whose message is in `earlier` and is now disliked by everyone who rated it."""
    known = {message for path in earlier for batch in _batches(path) for message in batch.column("message").to_pylist()}
    table = pq.read_table(snapshot, columns=["message", "rating"])
    rated = list(zip(table["message"].to_pylist(), table["rating"].to_pylist(), strict=True))
    liked = {message for message, rating in rated if rating > 0}
    return [row for row, (message, _) in enumerate(rated) if message in known and message not in liked]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
