"""Replay: keep liked rows of each window, and train on some of all of them again with each later window, together with
rows of the anchor, which show how the base model behaves.

An answer is identified by its text, the digest of prompt and answer (`clean.text_digest`): logs may give the same
question and answer another id each time.

A window's reservoir holds its liked rows with the smallest sha256 of seed and text: a draw without replacement that
does not depend on the order of the rows. It also holds disliked rows whose text an earlier reservoir contains. These
are never trained on; they end the replay of answers that users no longer like.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from learning_engine.feedback.clean import text_digest
from learning_engine.feedback.snapshot import is_heldout
from learning_engine.feedback.table import SCHEMA, TRAINED, writing

JOIN_COLUMNS = ("conversation", "rating")
SELECTION_COLUMNS = ("conversation", "created_at", "user", "rating", "heldout")
# Texts in memory at once.
BATCH_ROWS = 1024


def draw(snapshot: Path, target: Path, *, size: int, seed: int, earlier: Sequence[Path] = ()) -> int:
    """Write a reservoir to `target`, in snapshot order; return its number of rows.

    It holds at most `size` liked rows of `snapshot` that are not held out, and the disliked rows whose text is in the
    reservoirs `earlier`. No liked text is drawn twice, and no conversation gives a second row before every conversation
    has given one.
    """
    chosen = {*_chosen(snapshot, seed)[:size], *_withdrawn(snapshot, earlier)}
    start = 0
    with writing(target, SCHEMA) as file:
        for batch in _batches(snapshot):
            file.write(batch.filter(pa.array([start + row in chosen for row in range(batch.num_rows)], pa.bool_())))
            start += batch.num_rows
    return len(chosen)


class Joined(NamedTuple):
    """How many old rows follow a window's own: first those of earlier windows, then those of the anchor."""

    of_windows: int
    of_anchor: int


def join(
    snapshot: Path,
    reservoirs: Sequence[Path],
    anchor: Path | None,
    target: Path,
    *,
    size: int,
    of_anchor: int,
    passes: int,
    seed: str,
    heldout_fraction: float,
) -> Joined:
    """Write the rows of `snapshot` to `target`, then old rows for `size` places of a training; return their numbers.

    `of_anchor` of the places are for rows of `anchor`, each of which can take up to `passes` of them; the others, and
    those that are left, are for rows of `reservoirs`, which are ordered by time. A text of these is left out if it also
    appears in `snapshot` or in a later reservoir, since the newer ratings count. So is a conversation that would be
    held out now, even if the fraction was different when it was drawn. Of the other rows, those with the smallest
    sha256 of `seed` and text are chosen.
    """
    anchored = _anchored(anchor, seed, of_anchor) if anchor else []
    from_anchor = sum(map(len, anchored))
    with writing(target, TRAINED) as file:
        seen = set[str]()
        for batch in _batches(snapshot, TRAINED):
            seen.update(_texts(batch))
            file.write(batch)
        newest_first = reservoirs[::-1]
        replayable = _replayable(newest_first, seen, heldout_fraction)
        chosen = sorted(replayable, key=_shuffled(seed))[: size - min(of_anchor, passes * from_anchor)]
        left = set(chosen)
        for batch in (batch for reservoir in newest_first for batch in _batches(reservoir, TRAINED)):
            wanted = []
            for text in _texts(batch):
                wanted.append(text in left)
                left.discard(text)
            file.write(batch.filter(pa.array(wanted, pa.bool_())))
        for batch in anchored:
            file.write(batch)
    return Joined(len(chosen), from_anchor)


def _anchored(anchor: Path, seed: str, size: int) -> list[pa.RecordBatch]:
    """At most `size` liked rows of the anchor that are not held out."""
    rows = pa.Table.from_batches(_batches(anchor, TRAINED), TRAINED)
    rows = rows.filter((pc.field("rating") > 0) & ~pc.field("heldout"))
    texts, shuffled = [text for batch in rows.to_batches() for text in _texts(batch)], _shuffled(seed)
    chosen = sorted(range(len(texts)), key=lambda row: shuffled(texts[row]))[:size]
    batches: list[pa.RecordBatch] = rows.take(pa.array(chosen, pa.int64())).to_batches()
    return batches


def _replayable(newest_first: Sequence[Path], seen: set[str], heldout_fraction: float) -> set[str]:
    """The texts that are not in `seen`, whose newest rating is a like, and that are not held out. Adds to `seen`."""
    found = set[str]()
    for batch in (batch for reservoir in newest_first for batch in _batches(reservoir)):
        columns = (batch.column(name).to_pylist() for name in JOIN_COLUMNS)
        for text, conversation, rating in zip(_texts(batch), *columns, strict=True):
            if text not in seen and rating > 0 and not is_heldout(conversation, heldout_fraction):
                found.add(text)
            seen.add(text)
    return found


def _shuffled(seed: str) -> Callable[[str], str]:
    """A sort key that shuffles texts, independent of their order."""
    return lambda text: hashlib.sha256(f"{seed} {text}".encode()).hexdigest()


def trainable(snapshot: Path) -> int:
    """The number of rows that are not held out."""
    heldout: list[bool] = pq.read_table(snapshot, columns=["heldout"])["heldout"].to_pylist()
    return heldout.count(False)


def _chosen(snapshot: Path, seed: int) -> list[int]:
    """The indices of the rows that may be drawn, in the order in which they are drawn."""
    shuffled = _shuffled(str(seed))
    candidates, start = [], 0
    for batch in _batches(snapshot):
        columns = (batch.column(name).to_pylist() for name in SELECTION_COLUMNS)
        rows = enumerate(zip(_texts(batch), *columns, strict=True), start)
        candidates += [
            (shuffled(text), created_at, user or "", row, text, conversation)
            for row, (text, conversation, created_at, user, rating, heldout) in rows
            if rating > 0 and not heldout
        ]
        start += batch.num_rows
    first: list[int] = []
    further: list[int] = []
    texts, conversations = set[str](), set[str]()
    for *_, row, text, conversation in sorted(candidates):
        if text not in texts:
            (further if conversation in conversations else first).append(row)
        texts.add(text)
        conversations.add(conversation)
    return first + further


def _withdrawn(snapshot: Path, earlier: Sequence[Path]) -> list[int]:
    """The indices of the rows whose text is in `earlier` and is now disliked by everyone who rated it."""
    known = {text for path in earlier for batch in _batches(path) for text in _texts(batch)}
    rated = [
        row
        for batch in _batches(snapshot)
        for row in zip(_texts(batch), batch.column("rating").to_pylist(), strict=True)
    ]
    liked = {text for text, rating in rated if rating > 0}
    return [row for row, (text, _) in enumerate(rated) if text in known and text not in liked]


def _texts(batch: pa.RecordBatch) -> list[str]:
    """Identifies the answer of each row."""
    columns = (batch.column(name).to_pylist() for name in ("messages", "answer"))
    return [
        text_digest([(message["role"], message["content"]) for message in messages], answer)
        for messages, answer in zip(*columns, strict=True)
    ]


def _batches(path: Path, schema: pa.Schema = SCHEMA) -> Iterator[pa.RecordBatch]:
    """The rows of a file in `schema`, SCHEMA or TRAINED. Answers are finished unless the file says otherwise."""
    with pq.ParquetFile(path) as file:
        stored = [name for name in schema.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(BATCH_ROWS, columns=stored):
            finished = pa.array([False] * batch.num_rows)
            columns = [batch.column(name) if name in stored else finished for name in schema.names]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
