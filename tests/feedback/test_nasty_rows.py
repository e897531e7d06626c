"""Hostile and malformed rows: each is dropped with its reason or kept unchanged, and none fails the window."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from .conftest import LONE_SURROGATE, SQL, TABLE, WITH_PEOPLE, Database, Lines, Store, row

MEGABYTE = "x" * 1_000_000
# Rows that jsonb can hold, with the reason to drop them (None: kept). Each gets its own time, to keep the order.
NASTY: list[tuple[dict[str, Any], str | None]] = [
    (row(None), "no_prompt"),
    (row(answer=None), "no_answer"),
    (row("no thumb", thumb=None), "unknown_thumb"),
    (row(None, None, None), "no_prompt"),
    (row("wrong answer", {"response": {"text": [1]}}), "not_text"),
    (row({"messages": [{"role": "nobody", "content": "x"}]}), "unknown_role"),
    (row({"prompt": {"messages": None}}), "no_prompt"),
    (row(MEGABYTE), "too_long"),
    (row("long answer", MEGABYTE), "too_long"),
    (row(SQL, SQL), None),
    (row(f"thumb of {SQL}", thumb=SQL), "unknown_thumb"),
    (row("long thumb", thumb="up" * 50_000), "unknown_thumb"),
    (row("spelling", thumb=" Thumbs_UP\n"), None),
    (row("sign", thumb="👎"), None),
    (row("\\u0000 \\ud800 %s $1 \\ {} \t\u2028 😀 ‮", "\r\n\x01"), None),
    (row('{"prompt": "text of JSON"}', '{"response": "as it is"}'), None),
]
# In a json column these are plain text, because it is read as text.
BARE: list[tuple[dict[str, Any], str | None]] = [
    (row(7), "not_text"),
    (row(["a"]), "not_text"),
    (row(True), "not_text"),
]
# Rows that jsonb refuses, but that a json column or a line of a file can hold.
REFUSED_BY_JSONB: list[tuple[dict[str, Any], str | None]] = [
    (row(f"{LONE_SURROGATE} alone"), "lone_surrogate"),
    (row("surrogate", f"alone {LONE_SURROGATE}"), "lone_surrogate"),
    (row("nul \0"), "null_character"),
    (row("nul", "\0"), "null_character"),
]


@pytest.fixture(params=["jsonb", "json", "lines"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, list[tuple[dict[str, Any], str | None]]]:
    nasty = {"jsonb": NASTY + BARE, "json": NASTY + REFUSED_BY_JSONB, "lines": NASTY + BARE + REFUSED_BY_JSONB}[
        request.param
    ]
    store = Lines(tmp_path / "feedback.jsonl") if request.param == "lines" else request.getfixturevalue("database")
    nasty = [(one | {"created_at": f"2026-01-06 12:00:{i:02}"}, why) for i, (one, why) in enumerate(nasty)]
    rows = [one for one, _ in nasty]
    if isinstance(store, Database):
        store.create(TABLE.replace("jsonb", request.param))
        store.insert(*rows)
    else:
        store.fill(*rows)
    return store, nasty


def test_each_row_is_dropped_with_its_reason_or_kept_word_for_word(filled: Any, tmp_path: Path) -> None:
    store, nasty = filled
    counts = store.snapshot(tmp_path / "snapshot.parquet")
    assert counts.dropped == Counter(why for _, why in nasty if why)
    assert counts.read == len(nasty) == counts.rows + sum(counts.dropped.values())
    found = pq.read_table(tmp_path / "snapshot.parquet", columns=["messages", "answer", "rating"]).to_pylist()
    assert [(one["messages"], one["answer"]) for one in found] == [
        ([{"role": "user", "content": one["request_data"]["prompt"]}], one["response_data"]["response"])
        for one, why in nasty
        if not why
    ]
    assert [one["rating"] for one in found] == [1, 1, -1, 1, 1]


@pytest.mark.parametrize("kind", ["json", "text"])
def test_bare_json_in_a_json_or_text_column_is_text(database: Database, tmp_path: Path, kind: str) -> None:
    database.create(TABLE.replace("jsonb", kind))
    database.insert(*(one for one, _ in BARE))
    database.snapshot(tmp_path / "snapshot.parquet")
    found = pq.read_table(tmp_path / "snapshot.parquet", columns=["messages"]).to_pylist()
    assert {one["messages"][0]["content"] for one in found} == {"7", '["a"]', "true"}


def test_the_same_rows_give_the_same_bytes(filled: Any, tmp_path: Path) -> None:
    store, _ = filled
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for path in paths:
        store.snapshot(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_megabyte_is_kept_if_the_setting_allows_it(store: Store, tmp_path: Path) -> None:
    store.fill(row(MEGABYTE, "é" * 1_000_000))
    path = tmp_path / "snapshot.parquet"
    assert store.snapshot(path, store.feedback(max_characters=2_000_000)).rows == 1
    (found,) = pq.read_table(path).to_pylist()
    assert (found["messages"][0]["content"], found["answer"]) == (MEGABYTE, "é" * 1_000_000)


def test_any_text_is_accepted_as_an_id(store: Store, tmp_path: Path) -> None:
    people = ["", SQL, "x" * 100_000, "ann\n", "😀", " "]
    store.fill(*(row(f"question {i}", user=one, conversation=one) for i, one in enumerate(people)))
    counts = store.snapshot(tmp_path / "snapshot.parquet", store.feedback(columns=WITH_PEOPLE))
    assert (counts.rows, counts.users) == (len(people), len(people))


def test_a_row_nested_more_deeply_than_python_can_parse_is_dropped(database: Database, tmp_path: Path) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback VALUES ((repeat('[', 5000) || repeat(']', 5000))::jsonb, '\"a\"', 'up', '2026-01-06')"
    )
    assert database.snapshot(tmp_path / "snapshot.parquet").dropped == {"bad_json": 1}


def test_a_column_of_json_may_hold_what_jsonb_refuses(database: Database) -> None:
    database.create(TABLE.replace("jsonb", "json"))
    texts = ['{"prompt": "\\u0000"}', '"\\ud800"', "1e999999"]
    for text in (*texts, "null"):
        database.sql("INSERT INTO feedback VALUES (%s, '\"x\"', 'up', '2026-01-06')", text)
    found = [one["request"] for one in database.read()]
    assert sorted(json.loads(text) for text in found if text) == sorted(texts)
    assert found.count(None) == 1
