"""A window is streamed: memory use does not grow with it, and a stream may end early."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from learning_engine.errors import FeedbackUnavailable
from learning_engine.feedback.source import FileSource, read

from .conftest import WINDOW, Database, Lines, row

CONNECTIONS = "FROM pg_stat_activity WHERE application_name = 'learning_engine'"
# Prints the number of rows, and by how many bytes the process's peak memory grew while it wrote the snapshot.
GROWTH = """
import sys
from datetime import datetime
from pathlib import Path
from learning_engine.records.contracts import Window
from learning_engine.feedback import snapshot
from learning_engine.feedback.source import PostgresSource, read
from learning_engine.config.sections import Feedback

def peak():
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

conninfo, schema, path, start, end = sys.argv[1:]
feedback = Feedback(db_schema=schema)
window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))
before = peak()
batches = read(PostgresSource(conninfo), window, feedback)
counts = snapshot.write(batches, Path(path), feedback=feedback, heldout_fraction=0.1)
print(counts.rows, peak() - before)
"""


def fill(database: Database, *, rows: int, characters: int) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback SELECT to_jsonb(rpad(i::text, %s, 'abc ')), '\"a\"', 'up', '2026-01-06' "
        "FROM generate_series(1, %s) i",
        characters,
        rows,
    )


@pytest.fixture
def begun(database: Database) -> Iterator[pa.RecordBatch]:
    """The batches of a window of 32 MB, after the first has been read."""
    fill(database, rows=4000, characters=8000)
    batches = read(database.source, WINDOW, database.feedback())
    next(batches)
    return batches


def test_batches_stay_small_however_large_the_window(database: Database) -> None:
    fill(database, rows=4000, characters=8000)
    sizes = [batch.nbytes for batch in read(database.source, WINDOW, database.feedback())]
    assert sum(sizes) > 30_000_000
    assert max(sizes) < 6_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_large_window_needs_little_memory(database: Database, tmp_path: Path) -> None:
    fill(database, rows=5_000, characters=40_000)
    arguments = [database.conninfo, database.schema, str(tmp_path / "snapshot.parquet")]
    arguments += [WINDOW.start.isoformat(), WINDOW.end.isoformat()]
    plugins = Path(__file__).parents[2] / "plugins"
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, *arguments], cwd=plugins, check=True, capture_output=True, text=True, timeout=120
    )
    rows, growth = map(int, done.stdout.split())
    assert rows == 5_000
    assert growth < 200_000_000, f"{growth:,} bytes for a window of 200,000,000"


def test_a_file_is_read_in_several_batches(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "feedback.jsonl")
    lines.fill(*(row(f"q{i}", time=(WINDOW.start + timedelta(seconds=i)).isoformat()) for i in range(2500)))
    batches = list(read(FileSource(lines.path), WINDOW, lines.feedback()))
    assert [batch.num_rows for batch in batches] == [1024, 1024, 452]


def test_a_connection_that_is_lost_midway_is_retryable(database: Database, begun: Iterator[pa.RecordBatch]) -> None:
    database.sql(f"SELECT pg_terminate_backend(pid) {CONNECTIONS}")
    with pytest.raises(FeedbackUnavailable, match="connection was lost") as caught:
        list(begun)
    assert caught.value.retryable


def test_a_reader_that_stops_early_leaves_no_connection(database: Database, begun: Iterator[pa.RecordBatch]) -> None:
    assert database.sql(f"SELECT count(*) {CONNECTIONS}") == [(1,)]
    begun.close()
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while database.sql(f"SELECT count(*) {CONNECTIONS}") != [(0,)]:
        assert datetime.now(UTC) < deadline
