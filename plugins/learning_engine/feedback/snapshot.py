"""A window's clean rows as one Parquet file, the same bytes for the same rows, written in constant memory."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.errors import DatasetError
from learning_engine.feedback import clean
from learning_engine.feedback.clean import Dropped, Row, Rules
from learning_engine.feedback.raw import Raw
from learning_engine.sections import Feedback

MESSAGE = [pa.field("role", pa.string()), pa.field("content", pa.string())]
MESSAGES = pa.list_(pa.struct(MESSAGE))
SCHEMA = pa.schema(
    [
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("conversation", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("rating", pa.int8(), nullable=False),
        pa.field("heldout", pa.bool_(), nullable=False),
    ]
)
# A row group ends after so many rows, or characters, whichever comes first: it is what memory has to hold.
GROUP_ROWS = 4096
GROUP_CHARACTERS = 16 * 1024**2
FEW_VALUES = ["user", "conversation", "messages.list.element.role"]
COMPRESSION_LEVEL = 3

CountTokens = Callable[[list[str]], int]


@dataclass(frozen=True)
class Counts:
    """`read` = `rows` + all of `dropped`. `users` None without a user column, `tokens` None without a tokenizer."""

    read: int
    rows: int
    thumbs_up: int
    thumbs_down: int
    users: int | None
    conversations: int
    dropped: dict[str, int]
    tokens: int | None


def write(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    feedback: Feedback,
    heldout_fraction: float,
    tokenizer_file: Path | None = None,
) -> Counts:
    """Clean the raw `batches` (raw.SCHEMA, in their order) and write them to `path`, which appears when it is whole.

    A user's rows beyond `feedback.cap_per_user` are dropped, the earliest are kept. `tokens` counts the contents of
    prompt and answer with the tokenizer.json given, without template. Raises DatasetError where that is not readable,
    ConfigError for a bad JSON path, and what reading raises.
    """
    tokens = None if tokenizer_file is None else _token_counter(tokenizer_file)
    rules = clean.rules(feedback)
    tally = _Tally(feedback.cap_per_user)
    partial = path.with_name(path.name + ".partial")
    try:
        with pq.ParquetWriter(
            partial,
            SCHEMA,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=FEW_VALUES,
            write_statistics=False,
        ) as writer:
            group = _Group(writer, heldout_fraction, tokens)
            for batch in batches:
                _add(batch, rules, tally, group)
            group.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return tally.counts(tokens=group.tokens, with_users=feedback.columns.user is not None)


def is_heldout(conversation: str, fraction: float) -> bool:
    """The same answer for a conversation in every window; `conversation` is a sha256 in hexadecimal digits."""
    return int(conversation[:16], 16) < fraction * 2**64


def _add(batch: pa.RecordBatch, rules: Rules, tally: "_Tally", group: "_Group") -> None:
    columns = [batch.column(0).cast(pa.int64()), *batch.columns[1:]]
    for values in zip(*(column.to_pylist() for column in columns), strict=True):
        row = tally.admit(clean.parse_row(Raw._make(values), rules))
        if row is not None:
            group.append(row)


@dataclass
class _Tally:
    """Counts, and the cap per user. A conversation or user takes eight bytes a row here, never its text."""

    cap_per_user: int | None
    read: int = 0
    ratings: Counter[int] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    per_user: Counter[bytes] = field(default_factory=Counter)
    conversations: "array[int]" = field(default_factory=lambda: array("Q"))

    def admit(self, row: Row | Dropped) -> Row | None:
        self.read += 1
        if isinstance(row, Dropped):
            self.dropped[row.reason] += 1
            return None
        if row.user is not None:
            user = bytes.fromhex(row.user[:16])
            if self.cap_per_user is not None and self.per_user[user] >= self.cap_per_user:
                self.dropped["over_user_cap"] += 1
                return None
            self.per_user[user] += 1
        self.conversations.append(int(row.conversation[:16], 16))
        self.ratings[row.rating] += 1
        return row

    def counts(self, *, tokens: int | None, with_users: bool) -> Counts:
        return Counts(
            read=self.read,
            rows=self.ratings.total(),
            thumbs_up=self.ratings[1],
            thumbs_down=self.ratings[-1],
            users=len(self.per_user) if with_users else None,
            conversations=len(np.unique(np.frombuffer(self.conversations, dtype=np.uint64)))
            if self.conversations
            else 0,
            dropped=dict(sorted(self.dropped.items())),
            tokens=tokens,
        )


@dataclass
class _Group:
    """The rows of the row group that is being filled; where it ends depends on the rows alone, never on batches."""

    writer: pq.ParquetWriter
    heldout_fraction: float
    count_tokens: CountTokens | None
    tokens: int | None = field(init=False)
    rows: list[Row] = field(default_factory=list)
    characters: int = 0

    def __post_init__(self) -> None:
        self.tokens = None if self.count_tokens is None else 0

    def append(self, row: Row) -> None:
        self.rows.append(row)
        self.characters += len(row.answer) + sum(len(message.content) for message in row.messages)
        if len(self.rows) >= GROUP_ROWS or self.characters >= GROUP_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        if self.count_tokens is not None and self.tokens is not None:
            texts = [message.content for row in self.rows for message in row.messages]
            self.tokens += self.count_tokens(texts + [row.answer for row in self.rows])
        self.writer.write_batch(_record_batch(self.rows, self.heldout_fraction), row_group_size=GROUP_ROWS)
        self.rows, self.characters = [], 0


def _record_batch(rows: list[Row], heldout_fraction: float) -> pa.RecordBatch:
    created_at, message, conversation, user, messages, answer, rating = zip(*rows, strict=True)
    said = [pa.array(values, pa.string()) for values in zip(*chain.from_iterable(messages), strict=True)]
    offsets = pa.array(accumulate(map(len, messages), initial=0), pa.int32())
    arrays = [
        pa.array(created_at, SCHEMA.field("created_at").type),
        pa.array(message),
        pa.array(conversation),
        pa.array(user, pa.string()),
        pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(said, fields=MESSAGE), type=MESSAGES),
        pa.array(answer),
        pa.array(rating, pa.int8()),
        pa.array([is_heldout(digest, heldout_fraction) for digest in conversation]),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _token_counter(tokenizer_file: Path) -> CountTokens:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises no narrower one
        raise DatasetError(
            f"Expected a readable tokenizer.json at {tokenizer_file}, but: {type(error).__name__}. "
            "Give the file of the base model, or none."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: list[str]) -> int:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return sum(len(encoding) for encoding in encodings)

    return count
