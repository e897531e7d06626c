"""Write a snapshot's held-out rows to a separate file, kept longer than the snapshot, to evaluate later versions.

Its column `taught` has the places of the tokens that the window taught, counted from the first token of the answer;
null if they are not known. Its column `judging` marks the rows by which later versions are judged. Files of older
versions lack them. The column `slices` is there if `feedback.slices` was set.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.table import COMPRESSION_LEVEL, SLICES


def split(snapshot: Path, target: Path) -> int:
    """Copy the held-out rows of `snapshot` to `target`, in their order; return how many there are."""
    rows = 0
    with (
        pq.ParquetFile(snapshot) as source,
        pq.ParquetWriter(
            target, source.schema_arrow, compression="zstd", compression_level=COMPRESSION_LEVEL
        ) as writer,
    ):
        for batch in source.iter_batches():
            held = batch.filter(batch.column("heldout"))
            rows += held.num_rows
            writer.write_batch(pa.RecordBatch.from_arrays(held.columns, schema=source.schema_arrow))
    return rows


def mark(heldout: Path, taught: Mapping[int, Sequence[int]], judging: Collection[int]) -> None:
    """Set the columns `taught` and `judging` of the file `heldout`; `taught` gives the places by row."""
    rows = pq.read_table(heldout)
    column = pa.array([taught.get(row) for row in range(rows.num_rows)], pa.list_(pa.int32()))
    chosen = pa.array([row in judging for row in range(rows.num_rows)], pa.bool_())
    marked = heldout.with_name(heldout.name + ".marked")
    pq.write_table(
        rows.append_column("taught", column).append_column("judging", chosen),
        marked,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
    )
    marked.replace(heldout)


def taught(heldout: Path) -> dict[int, list[int]] | None:
    """The places by row, without rows that have none; None if the file has no such column."""
    if "taught" not in pq.read_schema(heldout).names:
        return None
    column = pq.read_table(heldout, columns=["taught"])["taught"].to_pylist()
    return {row: places for row, places in enumerate(column) if places}


def judging(heldout: Path) -> list[int] | None:
    """The rows by which later versions are judged; None if the file has no such column."""
    if "judging" not in pq.read_schema(heldout).names:
        return None
    column = pq.read_table(heldout, columns=["judging"])["judging"].to_pylist()
    return [row for row, chosen in enumerate(column) if chosen]


def conversations(file: Path) -> list[str]:
    """The conversation of each row."""
    found: list[str] = pq.read_table(file, columns=["conversation"])["conversation"].to_pylist()
    return found


def slices(file: Path) -> dict[str, list[str]]:
    """Each row's value, by name of the slice; empty if the file has no slices."""
    if SLICES not in pq.read_schema(file).names:
        return {}
    column = pq.read_table(file, columns=[SLICES])[SLICES].combine_chunks()
    return {part.name: column.field(part.name).to_pylist() for part in column.type}


def questions(file: Path) -> list[str]:
    """The last user message of each row; empty if it has none."""
    prompts = pq.read_table(file, columns=["messages"])["messages"].to_pylist()
    return [
        next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
        for messages in prompts
    ]
