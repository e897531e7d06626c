"""Feedback files: the same semantics as the table, and the same bytes in the snapshot."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from learning_engine.config.sections import Columns, Feedback
from learning_engine.errors import FeedbackError
from learning_engine.feedback import snapshot
from learning_engine.feedback.source import FileSource, Source, read

from .conftest import NAMES, PEOPLE, TABLE, WINDOW, WITH_PEOPLE, Database, row, rows_of

Write = Callable[..., Path]
FEEDBACK = Feedback(columns=WITH_PEOPLE, cap_per_user=4)


def many_rows() -> list[dict[str, Any]]:
    """About 300 rows of all shapes: equal times, repeated votes, users, ties, and rows to be dropped."""
    prompts: list[Any] = [
        *(f"question {i}" for i in range(12)),
        {"messages": [{"role": "system", "content": "Ünïcode 😀"}, {"role": "user", "content": '\u2028 "x" \\ \t'}]},
        {"bb": 1.50, "a": 1e3, "ccc": [1, -0.0, 2.5e-7], "prompt": "numbers"},
        None,
        "",
        7,
    ]
    thumbs = ["thumbs_up", "thumbs_down", " Up", "meh", None, "👎"]
    rows = []
    for i in range(300):
        user = [None, "ann", "bob", "Bob", "émile", "7"][i % 6]
        time = f"2026-01-0{5 + i % 3} 0{i % 10}:00:00.{i % 4:06d}"
        conversation = None if i % 5 else f"c{i % 3}"
        rows.append(row(prompts[i % 17], f"answer {i % 2}", thumbs[i % 11 % 6], time, user, conversation))
    for minute, thumb in ((1, "up"), (2, "down"), (2, "up")):
        rows.append(row(thumb=thumb, time=f"2026-01-08 00:0{minute}", user="ann", conversation=f"c{minute}{thumb}"))
    return [*rows, row(time="2026-01-04"), row(time="2026-01-12"), row(time=None)]


def snapshot_of(source: Source, path: Path, feedback: Feedback = FEEDBACK) -> tuple[str, snapshot.Counts]:
    counts = snapshot.write(read(source, WINDOW, feedback), path, feedback=feedback, heldout_fraction=0.3)
    return hashlib.sha256(path.read_bytes()).hexdigest(), counts


def test_lines_and_the_table_give_the_same_rows_and_bytes(
    database: Database, write_lines: Write, tmp_path: Path
) -> None:
    rows = many_rows()
    database.create(TABLE + PEOPLE)
    database.insert(*rows, names=NAMES)
    feedback = database.feedback(**FEEDBACK.model_dump(include={"columns", "cap_per_user"}))
    lines = FileSource(write_lines(*rows[::-1]))
    from_table, from_lines = database.read(feedback), rows_of(read(lines, WINDOW, feedback))
    kept = [[one for one in found if not one["superseded"]] for found in (from_table, from_lines)]
    compared = ("created_at", "message", "user", "superseded")
    assert [[one[name] for name in compared] for one in kept[0]] == [
        [one[name] for name in compared] for one in kept[1]
    ]
    assert len(from_table) == len(from_lines) == 303
    table = snapshot_of(database.source, tmp_path / "table.parquet", feedback)
    assert snapshot_of(lines, tmp_path / "lines.parquet", feedback) == table
    counts = table[1]
    assert counts.read == 303 == counts.rows + sum(counts.dropped.values()) + sum(counts.quarantined.values())
    assert set(counts.quarantined) == {"contradictory"}
    assert set(counts.dropped) == {"no_prompt", "not_text", "over_user_cap", "superseded", "unknown_thumb"}
    assert counts.rows > 20


@pytest.mark.parametrize("kind", ["text", "json"])
def test_parquet_and_a_table_of_text_give_the_same_bytes(database: Database, tmp_path: Path, kind: str) -> None:
    rows = many_rows()
    texts = [one | {name: json.dumps(one[name]) for name in NAMES[:2]} for one in rows]
    database.create(TABLE.replace("jsonb", kind) + PEOPLE)
    database.insert(*(texts if kind == "text" else rows), names=NAMES, text=kind == "text")
    feedback = database.feedback(columns=WITH_PEOPLE)
    times = [datetime.fromisoformat(one["created_at"]) if one["created_at"] else None for one in rows]
    columns: dict[str, Any] = {name: [one[name] for one in texts] for name in NAMES}
    columns["request_data"] = [None if text == "null" and kind == "json" else text for text in columns["request_data"]]
    columns["created_at"] = pa.array(times, pa.timestamp("ns"))
    pq.write_table(pa.table(columns), tmp_path / "feedback.parquet")
    from_table = snapshot_of(database.source, tmp_path / "table.snapshot", feedback)
    assert snapshot_of(FileSource(tmp_path / "feedback.parquet"), tmp_path / "file.snapshot", feedback) == from_table
    assert from_table[1].rows > 20


def test_nested_parquet_is_read_as_json(tmp_path: Path) -> None:
    request = [{"messages": [{"role": "user", "content": "Hello?"}]}]
    zoned = pa.array([datetime(2026, 1, 5, tzinfo=UTC)], pa.timestamp("ms", tz="Europe/Berlin"))
    table = pa.table(
        {
            "request_data": request,
            "response_data": ["Hi!"],
            "feedback_type": pa.array([-1], pa.int8()),
            "created_at": zoned,
        }
    )
    pq.write_table(table, tmp_path / "feedback.parquet")
    (found,) = rows_of(read(FileSource(tmp_path / "feedback.parquet"), WINDOW, Feedback()))
    assert json.loads(found["request"]) == request[0]
    assert (found["feedback_type"], found["created_at"]) == ("-1", WINDOW.start)


@pytest.mark.parametrize(
    ("time", "inside"),
    [
        ("2026-01-05", True),
        ("2026-01-05T00:00:00Z", True),
        ("2026-01-05 01:00:00+01", True),
        ("2026-01-05T00:59:59+01:00", False),
        ("2026-01-04 23:59:59.999999", False),
        ("2026-01-11 23:59:59.999999", True),
        ("2026-01-12", False),
        (None, False),
    ],
)
def test_only_lines_with_a_time_in_the_window_are_read(write_lines: Write, time: str | None, inside: bool) -> None:
    assert len(rows_of(read(FileSource(write_lines(row(time=time))), WINDOW, Feedback()))) == inside


def test_lines_that_cannot_be_read_are_counted_and_the_rest_is_kept(write_lines: Write, tmp_path: Path) -> None:
    good = row("Who?", "Me.")
    path = write_lines(
        good,
        b"",
        b"{not json",
        b"[1, 2]",
        b"\xff\xfe\x00",
        b'{"request_data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"request_data": ' + b"[" * 400 + b"]" * 400 + b"}",
        row(time="yesterday"),
        row(time=1767225600),
        row(time="9999-12-31T23:59:59-23:00"),
        row("\ud800 alone"),
        row("nul \0"),
        row("x" * 1_000_000),
        row("'; DROP TABLE feedback; --", thumb="'; DROP TABLE feedback; --"),
        row(["x"], {"y": 1}, {"thumb": "up"}, user={"id": 1}, conversation=[1]),
        row(user="\ud800", thumb="down", time="2026-01-07"),
    )
    _, counts = snapshot_of(FileSource(path), tmp_path / "snapshot.parquet", Feedback(columns=WITH_PEOPLE))
    assert counts.dropped == {
        "bad_json": 4,
        "bad_time": 3,
        "lone_surrogate": 1,
        "not_text": 1,
        "null_character": 1,
        "too_long": 1,
        "unknown_thumb": 1,
    }
    assert (counts.rows, counts.read, counts.thumbs_down) == (2, 14, 1)


@pytest.mark.parametrize("depth", [300, 400, 440, 480, 520, 900])
def test_a_deeply_nested_line_is_dropped_whichever_function_hits_the_recursion_limit(
    write_lines: Write, tmp_path: Path, depth: int
) -> None:
    line = b'{"request_data": ' + b"[" * depth + b"]" * depth + b', "created_at": "2026-01-06"}'
    _, counts = snapshot_of(FileSource(write_lines(line, row("Who?", "Me."))), tmp_path / "s.parquet", Feedback())
    assert counts.rows == 1
    assert counts.dropped in ({"bad_json": 1}, {"not_text": 1})


def test_missing_columns_of_files_are_named(write_lines: Write, tmp_path: Path) -> None:
    pq.write_table(pa.table({"request_data": ["a"], "when": [1]}), tmp_path / "feedback.parquet")
    for path in (tmp_path / "feedback.parquet", write_lines({"request_data": "a"}, {"when": 1})):
        with pytest.raises(
            FeedbackError, match=r"columns created_at, feedback_type, response_data .* found request_data, when"
        ):
            list(read(FileSource(path), WINDOW, Feedback()))
    with pytest.raises(FeedbackError, match="columns who in"):
        list(read(FileSource(write_lines(row())), WINDOW, Feedback(columns=Columns(user="who"))))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    for name, why in (
        ("feedback.csv", "to end with .jsonl"),
        ("none.jsonl", "FileNotFoundError"),
        ("torn.parquet", "Arrow"),
    ):
        with pytest.raises(FeedbackError, match=why):
            list(read(FileSource(tmp_path / name), WINDOW, Feedback()))


def test_an_empty_file_has_no_rows(write_lines: Write) -> None:
    assert rows_of(read(FileSource(write_lines()), WINDOW, Feedback())) == []
