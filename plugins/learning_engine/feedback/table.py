"""Write clean rows as Parquet: identical bytes for identical rows, in constant memory."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from learning_engine.feedback.clean import Row

MESSAGE = [pa.field("role", pa.string()), pa.field("content", pa.string())]
MESSAGES = pa.list_(pa.struct(MESSAGE))
ROWS = pa.schema(
    [
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("conversation", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("rating", pa.int8(), nullable=False),
    ]
)
HELDOUT = pa.field("heldout", pa.bool_(), nullable=False)
REASON = pa.field("reason", pa.string(), nullable=False)
# The answer is cut: its end is not taught. Only answers that the base model wrote itself are.
UNFINISHED = pa.field("unfinished", pa.bool_(), nullable=False)
SCHEMA = ROWS.append(HELDOUT)
TRAINED = SCHEMA.append(UNFINISHED)
QUARANTINE = SCHEMA.append(REASON)
SLICES = "slices"
# A row group ends after this many rows or characters, whichever comes first; memory holds one row group at a time.
GROUP_ROWS = 4096
GROUP_CHARACTERS = 16 * 1024**2
FEW_VALUES = ["user", "conversation", "messages.list.element.role", "reason"]
COMPRESSION_LEVEL = 3


def rows_schema(slices: Iterable[str]) -> pa.Schema:
    """ROWS, and if there are `slices`, a column that holds them by name."""
    fields = [pa.field(name, pa.string(), nullable=False) for name in slices]
    return ROWS.append(pa.field(SLICES, pa.struct(fields), nullable=False)) if fields else ROWS


@dataclass
class Writer:
    """Fills one row group after another. Where a group ends depends only on the rows, not on the batches."""

    file: pq.ParquetWriter
    parts: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    characters: int = 0

    def write(self, batch: pa.RecordBatch) -> None:
        ends = np.cumsum(_characters(batch))
        start, before = 0, 0
        while start < batch.num_rows:
            last = int(np.searchsorted(ends, before + GROUP_CHARACTERS - self.characters))
            stop = min(start + GROUP_ROWS - self.rows, last + 1, batch.num_rows)
            self.parts.append(batch.slice(start, stop - start))
            self.rows += stop - start
            self.characters += int(ends[stop - 1]) - before
            start, before = stop, int(ends[stop - 1])
            if self.rows >= GROUP_ROWS or self.characters >= GROUP_CHARACTERS:
                self.flush()

    def flush(self) -> None:
        if self.parts:
            self.file.write_table(pa.Table.from_batches(self.parts).combine_chunks(), row_group_size=GROUP_ROWS)
        self.parts, self.rows, self.characters = [], 0, 0


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[Writer]:
    """Open a writer for `path`, which appears only once it is complete. `schema` is SCHEMA, TRAINED or QUARANTINE,
    maybe with slices."""
    partial = path.with_name(path.name + ".partial")
    few = [name for name in FEW_VALUES if name.partition(".")[0] in schema.names]
    if SLICES in schema.names:
        few += [f"{SLICES}.{part.name}" for part in schema.field(SLICES).type]
    try:
        with pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=few,
            write_statistics=False,
        ) as file:
            writer = Writer(file)
            yield writer
            writer.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def record_batch(rows: list[Row], schema: pa.Schema = ROWS) -> pa.RecordBatch:
    """Convert one or more rows to a batch of `schema`, see `rows_schema`."""
    created_at, message, conversation, user, messages, answer, rating, slices = zip(*rows, strict=True)
    roles_and_contents = [pa.array(values, pa.string()) for values in zip(*chain.from_iterable(messages), strict=True)]
    offsets = pa.array(accumulate(map(len, messages), initial=0), pa.int32())
    arrays = [
        pa.array(created_at, ROWS.field("created_at").type),
        pa.array(message),
        pa.array(conversation),
        pa.array(user, pa.string()),
        pa.ListArray.from_arrays(
            offsets, pa.StructArray.from_arrays(roles_and_contents, fields=MESSAGE), type=MESSAGES
        ),
        pa.array(answer),
        pa.array(rating, pa.int8()),
    ]
    if SLICES in schema.names:
        values = [pa.array(column, pa.string()) for column in zip(*slices, strict=True)]
        arrays.append(pa.StructArray.from_arrays(values, fields=list(schema.field(SLICES).type)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def with_column(batch: pa.RecordBatch, values: Sequence[object], field: pa.Field) -> pa.RecordBatch:
    """`batch` with `values` appended as the column `field`."""
    return batch.append_column(field, pa.array(values, field.type))


def contents(batch: pa.RecordBatch) -> pa.Array:
    """The contents of all prompt messages, in order."""
    return batch.column("messages").flatten().field("content")


def _characters(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Characters of prompt and answer, (rows,). Every prompt has at least one message."""
    answers: npt.NDArray[np.int64] = pc.utf8_length(batch.column("answer")).to_numpy().astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(batch.column("messages")).to_numpy())[:-1]])
    lengths = pc.utf8_length(contents(batch)).to_numpy().astype(np.int64)
    if len(answers):
        answers += np.add.reduceat(lengths, starts.astype(np.int64))
    return answers
