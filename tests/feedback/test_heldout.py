"""The held-out rows of a snapshot, and the file that outlives it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from learning_engine.feedback import heldout
from learning_engine.feedback.table import SCHEMA

from .conftest import WITH_PEOPLE, Lines, row


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Forty rows of twenty conversations, most of several messages."""
    lines = Lines(tmp_path / "feedback.jsonl")
    lines.fill(*(row(f"question {i}", user=f"u{i % 3}", conversation=f"c{i // 2}") for i in range(40)))
    return lines


def split(lines: Lines) -> tuple[list[dict[str, Any]], pa.Table]:
    """The rows of the snapshot, and the table of its held-out file."""
    whole, held = lines.path.with_name("snapshot.parquet"), lines.path.with_name("heldout.parquet")
    lines.snapshot(whole, lines.feedback(columns=WITH_PEOPLE))
    table_rows = pq.read_table(whole).to_pylist()
    count = heldout.split(whole, held)
    table = pq.read_table(held)
    assert count == table.num_rows
    return table_rows, table


def test_the_file_has_the_held_out_rows_in_their_order(lines: Lines) -> None:
    rows, table = split(lines)
    assert table.schema.equals(SCHEMA)
    assert 0 < table.num_rows < len(rows) == 40
    assert table.to_pylist() == [one for one in rows if one["heldout"]]


def test_no_conversation_is_split(lines: Lines) -> None:
    rows, table = split(lines)
    held = set(table["conversation"].to_pylist())
    assert not held & {one["conversation"] for one in rows if not one["heldout"]}


def test_a_second_split_gives_the_same_bytes(lines: Lines) -> None:
    split(lines)
    first = lines.path.with_name("heldout.parquet").read_bytes()
    split(lines)
    assert lines.path.with_name("heldout.parquet").read_bytes() == first


def test_a_window_without_rows_has_none_held_out(lines: Lines) -> None:
    lines.fill()
    rows, table = split(lines)
    assert rows == table.to_pylist() == []
    assert table.schema.equals(SCHEMA)
