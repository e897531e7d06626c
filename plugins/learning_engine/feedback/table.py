"""Clean rows as Parquet: the same bytes for the same rows, written in constant memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.clean import Row

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
QUARANTINE = SCHEMA.append(pa.field("reason", pa.string(), nullable=False))
# A row group ends after so many rows, or characters, whichever comes first: it is what memory has to hold.
GROUP_ROWS = 4096
GROUP_CHARACTERS = 16 * 1024**2
FEW_VALUES = ["user", "conversation", "messages.list.element.role", "reason"]
COMPRESSION_LEVEL = 3


@dataclass
class Writer:
    """Fills one row group after the other; where a group ends depends on the rows alone, never on batches."""

    file: pq.ParquetWriter
    schema: pa.Schema
    rows: list[Row] = field(default_factory=list)
    marks: list[tuple[object, ...]] = field(default_factory=list)
    characters: int = 0

    def append(self, row: Row, *marks: object) -> None:
        """`marks` are the values of the columns that follow a row's own: `heldout`, and where it has one `reason`."""
        self.rows.append(row)
        self.marks.append(marks)
        self.characters += len(row.answer) + sum(len(message.content) for message in row.messages)
        if len(self.rows) >= GROUP_ROWS or self.characters >= GROUP_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.file.write_batch(_record_batch(self.rows, self.marks, self.schema), row_group_size=GROUP_ROWS)
        self.rows, self.marks, self.characters = [], [], 0


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Writer]:
    """A writer of SCHEMA or QUARANTINE to `path`, which appears when it is whole."""
    partial = path.with_name(path.name + ".partial")
    few = [name for name in FEW_VALUES if name.partition(".")[0] in schema.names]
    try:
        with pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=few,
            write_statistics=False,
        ) as file:
            writer = Writer(file, schema)
            yield writer
            writer.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _record_batch(rows: list[Row], marks: list[tuple[object, ...]], schema: pa.Schema) -> pa.RecordBatch:
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
        *(pa.array(values) for values in zip(*marks, strict=True)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
