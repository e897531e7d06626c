"""Write a snapshot's held-out rows to a separate file, kept longer than the snapshot, to evaluate later versions."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.feedback.table import COMPRESSION_LEVEL, SCHEMA


def split(snapshot: Path, target: Path) -> int:
    """Copy the held-out rows of `snapshot` to `target`, in their order; return how many there are."""
    rows = 0
    with (
        pq.ParquetFile(snapshot) as source,
        pq.ParquetWriter(target, SCHEMA, compression="zstd", compression_level=COMPRESSION_LEVEL) as writer,
    ):
        for batch in source.iter_batches():
            held = batch.filter(batch.column("heldout"))
            rows += held.num_rows
            writer.write_batch(pa.RecordBatch.from_arrays(held.columns, schema=SCHEMA))
    return rows
