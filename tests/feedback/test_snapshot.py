"""The snapshot: identical bytes for identical rows, and no ids in plain text."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from learning_engine.config.sections import Columns, Feedback
from learning_engine.errors import DatasetError
from learning_engine.feedback import raw, snapshot
from learning_engine.feedback.clean import digest
from learning_engine.feedback.table import SCHEMA

START = datetime(2026, 1, 5, tzinfo=UTC)
PEOPLE = Feedback(columns=Columns(user="user_id", conversation="conversation_id"))


def raw_rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    """Raw rows; each column is a value or a function of the row's index."""
    given = {"feedback_type": "thumbs_up", "user": None, "conversation": None, "superseded": False} | columns
    rows = []
    for i in range(count):
        request, response = json.dumps(f"question {i}"), json.dumps({"response": f"answer {i}"})
        one = {
            "created_at": START + timedelta(seconds=i),
            "message": digest(str(i)),
            "request": request,
            "response": response,
        }
        rows.append(one | {name: value(i) if callable(value) else value for name, value in given.items()})
    return rows


def batches(rows: list[dict[str, Any]], size: int = 1000) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), size):
        yield pa.RecordBatch.from_pylist(rows[start : start + size], schema=raw.SCHEMA)


def write(
    rows: list[dict[str, Any]],
    path: Path,
    *,
    size: int = 1000,
    fraction: float = 0.1,
    feedback: Feedback = PEOPLE,
    **more: Any,
) -> snapshot.Counts:
    return snapshot.write(batches(rows, size), path, feedback=feedback, heldout_fraction=fraction, **more)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_snapshot_has_the_documented_columns(tmp_path: Path) -> None:
    rows = raw_rows(1, user="ann", conversation="c1", feedback_type="down")
    write(rows, tmp_path / "s.parquet", fraction=0.5)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [
        {
            "created_at": START,
            "message": digest("0"),
            "conversation": digest("c1"),
            "user": digest("ann"),
            "messages": [{"role": "user", "content": "question 0"}],
            "answer": "answer 0",
            "rating": -1,
            "heldout": int(digest("c1"), 16) < 2**255,
        }
    ]


def test_the_bytes_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    rows = raw_rows(5000, user=lambda i: f"u{i % 97}", conversation=lambda i: f"c{i // 3}")
    counts = [write(rows, tmp_path / f"{size}.parquet", size=size) for size in (1000, 1000, 77, 5000)]
    assert counts.count(counts[0]) == 4
    assert len({sha256(tmp_path / f"{size}.parquet") for size in (1000, 77, 5000)}) == 1
    write(rows[:-1], tmp_path / "less.parquet")
    assert sha256(tmp_path / "less.parquet") != sha256(tmp_path / "77.parquet")


def test_row_groups_are_limited_in_rows_and_in_characters(tmp_path: Path) -> None:
    write(raw_rows(9000), tmp_path / "many.parquet")
    metadata = pq.ParquetFile(tmp_path / "many.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4096, 4096, 808]
    long = raw_rows(40, request=json.dumps("x" * 1_000_000))
    write(long, tmp_path / "long.parquet", feedback=Feedback(max_characters=2_000_000))
    metadata = pq.ParquetFile(tmp_path / "long.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [17, 17, 6]


def test_rows_votes_users_and_conversations_are_counted(tmp_path: Path) -> None:
    rows = raw_rows(
        10,
        user=lambda i: [None, "ann", "bob"][i % 3],
        conversation=lambda i: f"c{i % 4}",
        feedback_type=lambda i: ["up", "down", "meh"][i % 3],
        superseded=lambda i: i == 9,
    )
    assert write(rows, tmp_path / "s.parquet") == snapshot.Counts(
        read=10,
        rows=6,
        thumbs_up=3,
        thumbs_down=3,
        users=1,
        conversations=4,
        dropped={"superseded": 1, "unknown_thumb": 3},
        tokens=None,
        heldout=1,
    )
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 6
    assert write(rows, tmp_path / "s.parquet", feedback=Feedback()).users is None


def test_heldout_counts_the_conversations_that_the_gate_will_judge_by(tmp_path: Path) -> None:
    rows = raw_rows(90, conversation=lambda i: f"c{i % 30}", feedback_type=lambda i: ["up", "down"][i % 30 < 10])
    counts = write(rows, tmp_path / "s.parquet", fraction=0.5)
    table = pq.read_table(tmp_path / "s.parquet").to_pylist()
    judged = {row["conversation"] for row in table if row["heldout"] and row["rating"] > 0}
    assert counts.heldout == len(judged)
    assert 0 < counts.heldout < len({row["conversation"] for row in table if row["heldout"]})


def test_an_empty_window_gives_a_readable_snapshot(tmp_path: Path) -> None:
    counts = write([], tmp_path / "s.parquet")
    assert counts == snapshot.Counts(0, 0, 0, 0, 0, 0, {}, None)
    assert pq.read_table(tmp_path / "s.parquet").schema.equals(SCHEMA)


def test_the_cap_keeps_a_user_s_earliest_rows_and_affects_no_other_user(tmp_path: Path) -> None:
    rows = raw_rows(
        12, user=lambda i: ["ann", None, "bob"][i % 3], request=lambda i: json.dumps("" if i == 0 else f"q{i}")
    )
    counts = write(rows, tmp_path / "s.parquet", feedback=PEOPLE.model_copy(update={"cap_per_user": 2}))
    assert counts.dropped == {"no_prompt": 1, "over_user_cap": 3}  # a dropped row does not count towards the cap
    kept = pq.read_table(tmp_path / "s.parquet").to_pylist()
    seconds = {
        user: [int((one["created_at"] - START).seconds) for one in kept if one["user"] == user]
        for user in (digest("ann"), digest("bob"), None)
    }
    assert seconds == {digest("ann"): [3, 6], digest("bob"): [2, 5], None: [1, 4, 7, 10]}
    assert counts.users == 2


def test_conversations_are_held_out_at_the_given_fraction_and_a_larger_one_only_adds_some(tmp_path: Path) -> None:
    rows = raw_rows(4000, conversation=lambda i: f"c{i // 2}")
    held = {}
    for fraction in (0.0, 0.1, 0.3):
        write(rows, tmp_path / "s.parquet", fraction=fraction)
        found = pq.read_table(tmp_path / "s.parquet", columns=["conversation", "heldout"]).to_pylist()
        held[fraction] = {one["conversation"] for one in found if one["heldout"]}
        assert not held[fraction] & {one["conversation"] for one in found if not one["heldout"]}
        assert abs(len(held[fraction]) / 2000 - fraction) < 0.03
    assert held[0.0] == set()
    assert held[0.1] < held[0.3]


@pytest.mark.parametrize(
    ("conversation", "fraction", "held"),
    [
        ("0" * 64, 1e-9, True),
        ("0" * 64, 0.0, False),
        ("3" + "f" * 63, 0.25, True),
        ("4" + "0" * 63, 0.25, False),
        ("7" + "f" * 63, 0.5, True),
        ("f" * 64, 0.5, False),
    ],
)
def test_heldout_is_a_threshold_on_the_digest(conversation: str, fraction: float, held: bool) -> None:
    assert snapshot.is_heldout(conversation, fraction) is held


def test_without_conversation_ids_the_first_user_message_identifies_the_conversation(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "same"}]}
    more = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "next"}]
    write(
        raw_rows(2, request=lambda i: json.dumps({"messages": chat["messages"] + more[: 2 * i]})),
        tmp_path / "s.parquet",
    )
    assert pq.read_table(tmp_path / "s.parquet")["conversation"].to_pylist() == [digest("same")] * 2


def test_the_file_holds_no_id_in_plain_text(tmp_path: Path) -> None:
    write(raw_rows(3, user="ann.smith@example.com", conversation="secret-room-7"), tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    assert "ann.smith" not in str(table.to_pylist())
    assert "secret-room" not in str(table.to_pylist())
    assert set(table["user"].to_pylist()) == {digest("ann.smith@example.com")}


def test_a_source_that_fails_midway_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(raw_rows(5000))
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        snapshot.write(broken(), tmp_path / "s.parquet", feedback=PEOPLE, heldout_fraction=0.1)
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_counted_over_prompt_and_answer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"question": 0, "answer": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counts = write(raw_rows(5000), tmp_path / "s.parquet", tokenizer_file=tmp_path / "tokenizer.json")
    assert counts.tokens == 5000 * 4
    assert write([], tmp_path / "s.parquet", tokenizer_file=tmp_path / "tokenizer.json").tokens == 0


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_an_unreadable_tokenizer_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DatasetError, match=r"readable tokenizer\.json"):
        write([], tmp_path / "s.parquet", tokenizer_file=tmp_path / "tokenizer.json")
