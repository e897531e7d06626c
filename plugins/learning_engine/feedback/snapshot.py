"""A window's clean rows as one Parquet file, and what would steer as another, both written in constant memory.

The rows are read twice, first from the source and then from a file of their own that has no name: whether a row is
kept can depend on votes that come after it.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from learning_engine.feedback import clean, steering
from learning_engine.feedback.clean import Dropped, Row, digest
from learning_engine.feedback.raw import Raw
from learning_engine.feedback.shapes import Message
from learning_engine.feedback.steering import KEPT, QUARANTINED, UNKNOWN, VERDICTS, Votes
from learning_engine.feedback.table import QUARANTINE, SCHEMA, writing
from learning_engine.feedback.tokens import TokenCounter
from learning_engine.sections import Feedback


@dataclass(frozen=True)
class Counts:
    """`read` = `rows` + all of `dropped` + all of `quarantined`, both by reason; the other counts are over `rows`.

    `users` None without a user column, `tokens` None without a tokenizer.
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


def write(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    feedback: Feedback,
    heldout_fraction: float,
    tokenizer_file: Path | None = None,
    quarantine: Path | None = None,
) -> Counts:
    """Clean the raw `batches` (raw.SCHEMA, in their order) and write them to `path`, which appears when it is whole.

    What `steering` sets aside is counted, and written to `quarantine` where that is given. `tokens` counts the
    contents of prompt and answer with the tokenizer.json given, without template. Raises DatasetError where that is
    not readable, ConfigError for a bad JSON path, and what reading raises.
    """
    tokens = None if tokenizer_file is None else TokenCounter(tokenizer_file)
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile("w+", dir=path.parent, encoding="utf-8"))
        votes, dropped = _spool(batches, spool, clean.rules(feedback))
        verdicts = steering.judge(votes, feedback)
        kept = stack.enter_context(writing(path, SCHEMA))
        aside = stack.enter_context(writing(quarantine, QUARANTINE)) if quarantine else None
        for row, verdict in zip(_rows(spool), verdicts, strict=True):
            if verdict == KEPT:
                kept.append(row, is_heldout(row.conversation, heldout_fraction))
                if tokens is not None:
                    tokens.add(*(message.content for message in row.messages), row.answer)
            elif aside is not None and verdict in QUARANTINED:
                aside.append(row, False, VERDICTS[verdict])
    return _counts(votes, verdicts, dropped, tokens=tokens, with_users=feedback.columns.user is not None)


def is_heldout(conversation: str, fraction: float) -> bool:
    """The same answer for a conversation in every window; `conversation` is a sha256 in hexadecimal digits."""
    return int(conversation[:16], 16) < fraction * 2**64


def _spool(batches: Iterable[pa.RecordBatch], spool: IO[str], rules: clean.Rules) -> tuple[Votes, Counter[str]]:
    """The clean rows as lines in `spool`, what of them decides in memory, and how many rows were dropped for what."""
    votes, dropped = Votes(), Counter[str]()
    for batch in batches:
        columns = [batch.column(0).cast(pa.int64()), *batch.columns[1:]]
        for values in zip(*(column.to_pylist() for column in columns), strict=True):
            row = clean.parse_row(Raw._make(values), rules)
            if isinstance(row, Dropped):
                dropped[row.reason] += 1
                continue
            text = json.dumps([row.messages, row.answer])
            votes.append(row, text=digest(text))
            spool.write(f"[{json.dumps(row._replace(messages=[], answer=''))}, {text}]\n")
    return votes, dropped


def _rows(spool: IO[str]) -> Iterator[Row]:
    spool.seek(0)
    for line in spool:
        facts, (messages, answer) = json.loads(line)
        yield Row._make(facts)._replace(messages=list(map(Message._make, messages)), answer=answer)


def _counts(
    votes: Votes,
    verdicts: npt.NDArray[np.uint8],
    dropped: Counter[str],
    *,
    tokens: TokenCounter | None,
    with_users: bool,
) -> Counts:
    kept = verdicts == KEPT
    users = np.unique(np.array(votes.user, np.uint64)[kept])
    set_aside = Counter({VERDICTS[verdict]: int((verdicts == verdict).sum()) for verdict in range(1, len(VERDICTS))})
    quarantined = {VERDICTS[verdict]: set_aside.pop(VERDICTS[verdict]) for verdict in QUARANTINED}
    return Counts(
        read=len(verdicts) + dropped.total(),
        rows=int(kept.sum()),
        thumbs_up=int((np.array(votes.rating, np.int8)[kept] > 0).sum()),
        thumbs_down=int((np.array(votes.rating, np.int8)[kept] < 0).sum()),
        users=int((users != UNKNOWN).sum()) if with_users else None,
        conversations=len(np.unique(np.array(votes.conversation, np.uint64)[kept])),
        dropped=_positive(dropped + set_aside),
        tokens=None if tokens is None else tokens.total,
        quarantined=_positive(quarantined),
    )


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if count}
