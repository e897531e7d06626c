"""Write a window's clean rows to one Parquet file and its suspicious rows to another, both in constant memory.

The rows are read twice, first from the source and then from an unnamed temporary file, because whether a row is kept
can depend on later votes.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from learning_engine.config.sections import Feedback
from learning_engine.feedback import clean, steering
from learning_engine.feedback.clean import Dropped, text_digest
from learning_engine.feedback.raw import Raw
from learning_engine.feedback.steering import KEPT, QUARANTINED, UNKNOWN, VERDICTS, Verdicts, Votes
from learning_engine.feedback.table import (
    HELDOUT,
    REASON,
    contents,
    record_batch,
    rows_schema,
    with_column,
    writing,
)
from learning_engine.feedback.tokens import TokenCounter


@dataclass(frozen=True)
class Counts:
    """`read` = `rows` + all of `dropped` + all of `quarantined`, both by reason. The other counts cover `rows`.

    `users` is None without a user column, `tokens` without a tokenizer. `heldout` counts the held-out conversations
    with a liked answer, by which the gate judges.
    """

    read: int
    rows: int
    thumbs_up: int
    thumbs_down: int
    users: int | None
    conversations: int
    dropped: dict[str, int]
    tokens: int | None
    quarantined: dict[str, int] = field(default_factory=dict)
    heldout: int = 0


def write(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    feedback: Feedback,
    heldout_fraction: float,
    tokenizer_file: Path | None = None,
    quarantine: Path | None = None,
) -> Counts:
    """Clean the raw `batches` (raw.SCHEMA, in order) and write them to `path`, which appears only once it is complete.

    Rows that `steering` sets aside are counted, and written to `quarantine` if given. `tokens` counts the contents of
    prompt and answer with `tokenizer_file`, without a chat template. Raises DatasetError if that file is not readable,
    ConfigError for a bad JSON path, and whatever reading raises.
    """
    tokens = None if tokenizer_file is None else TokenCounter(tokenizer_file)
    of_rows = rows_schema(feedback.slices)
    schema = of_rows.append(HELDOUT)
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
        votes, dropped = _spool(batches, spool, clean.rules(feedback), of_rows)
        verdicts = steering.judge(votes, feedback)
        kept = stack.enter_context(writing(path, schema))
        aside = stack.enter_context(writing(quarantine, schema.append(REASON))) if quarantine else None
        for batch, verdict in _judged(spool, verdicts):
            rows = batch.filter(verdict == KEPT)
            held = [
                is_heldout(conversation, heldout_fraction) for conversation in rows.column("conversation").to_pylist()
            ]
            kept.write(with_column(rows, held, HELDOUT))
            if tokens is not None:
                tokens.add(*contents(rows).to_pylist(), *rows.column("answer").to_pylist())
            if aside is not None:
                aside.write(_quarantined(batch, verdict))
    with_users = feedback.columns.user is not None
    return _counts(votes, verdicts, dropped, tokens=tokens, with_users=with_users, heldout_fraction=heldout_fraction)


def is_heldout(conversation: str, fraction: float) -> bool:
    """Whether a conversation is held out, the same in every window; `conversation` is a sha256 in hexadecimal."""
    return _in_heldout_share(int(conversation[:16], 16), fraction)


def _in_heldout_share(conversation: int, fraction: float) -> bool:
    """The same for the first eight bytes of the sha256."""
    return conversation < fraction * 2**64


def _spool(
    batches: Iterable[pa.RecordBatch], spool: IO[bytes], rules: clean.Rules, schema: pa.Schema
) -> tuple[Votes, Counter[str]]:
    """Write the clean rows to `spool`; return the votes to judge them by, and the number of dropped rows by reason."""
    votes, dropped = Votes(), Counter[str]()
    with pa.ipc.new_stream(spool, schema) as stream:
        for batch in batches:
            columns = [batch.column(0).cast(pa.int64()), *batch.columns[1:]]
            rows = []
            for values in zip(*(column.to_pylist() for column in columns), strict=True):
                row = clean.parse_row(Raw._make(values), rules)
                if isinstance(row, Dropped):
                    dropped[row.reason] += 1
                    continue
                votes.append(row, text=text_digest(row.messages, row.answer))
                rows.append(row)
            if rows:
                stream.write_batch(record_batch(rows, schema))
    spool.seek(0)
    return votes, dropped


def _judged(spool: IO[bytes], verdicts: Verdicts) -> Iterator[tuple[pa.RecordBatch, Verdicts]]:
    with pa.ipc.open_stream(spool) as stream:
        start = 0
        for batch in stream:
            yield batch, verdicts[start : start + batch.num_rows]
            start += batch.num_rows


def _quarantined(batch: pa.RecordBatch, verdicts: Verdicts) -> pa.RecordBatch:
    """The rows set aside. None is marked as held out, so that the gate never judges by suspicious feedback."""
    aside = np.isin(verdicts, QUARANTINED)
    rows = with_column(batch.filter(aside), [False] * int(aside.sum()), HELDOUT)
    return with_column(rows, [VERDICTS[verdict] for verdict in verdicts[aside]], REASON)


def _counts(
    votes: Votes,
    verdicts: Verdicts,
    dropped: Counter[str],
    *,
    tokens: TokenCounter | None,
    with_users: bool,
    heldout_fraction: float,
) -> Counts:
    kept = verdicts == KEPT
    liked, conversation = np.array(votes.rating, np.int8) > 0, np.array(votes.conversation, np.uint64)
    users = np.unique(np.array(votes.user, np.uint64)[kept])
    set_aside = Counter({VERDICTS[verdict]: int((verdicts == verdict).sum()) for verdict in range(1, len(VERDICTS))})
    quarantined = {VERDICTS[verdict]: set_aside.pop(VERDICTS[verdict]) for verdict in QUARANTINED}
    return Counts(
        read=len(verdicts) + dropped.total(),
        rows=int(kept.sum()),
        thumbs_up=int(liked[kept].sum()),
        thumbs_down=int((~liked)[kept].sum()),
        users=int((users != UNKNOWN).sum()) if with_users else None,
        conversations=len(np.unique(conversation[kept])),
        dropped=_positive(dropped + set_aside),
        tokens=None if tokens is None else tokens.total,
        quarantined=_positive(quarantined),
        heldout=sum(_in_heldout_share(one, heldout_fraction) for one in np.unique(conversation[kept & liked]).tolist()),
    )


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if count}
