"""Slices: where their values are read, what becomes of odd ones, and the column that carries them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from learning_engine.config.sections import Feedback
from learning_engine.errors import FeedbackError
from learning_engine.feedback import heldout, replay
from learning_engine.feedback.clean import parse_row, rules
from learning_engine.feedback.raw import Raw
from learning_engine.feedback.table import SCHEMA

from .conftest import NAMES, TABLE, Database, Lines, Store, kept, parse, parse_text, row

LANGUAGE = {"language": "language"}
KINDS = ", language text, plan jsonb, tier json, seats numeric, trial boolean, tags text[]"


def of(value: Any, place: str = "request.metadata.value") -> str:
    """The slice's value of a row whose request has `value` in its metadata."""
    request = {"prompt": "Hello?", "metadata": {"value": value, "list": [{"a": value}]}}
    (found,) = kept(parse(request, {"response": "Hi!", "intent": value}, slices={"name": place})).slices
    return found


@pytest.mark.parametrize("place", ["request.metadata.value", "request.metadata.list[0].a", "response.intent"])
def test_a_value_is_read_along_a_path(place: str) -> None:
    assert of("de", place) == "de"
    assert of("de", f"{place}.deeper") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        (12, "12"),
        (0.5, "0.5"),
        (True, "true"),
        (["de"], ""),
        ({"a": 1}, ""),
        ('["de"]', ""),
        ("{broken", "{broken"),
        (" two\n\t lines ", "two lines"),
        ("a\0b\u202ec\ud800", "a b c"),
        ("x" * 100, "x" * 64),
        ("<b>|*", "<b>|*"),
    ],
)
def test_odd_values_become_short_text(value: Any, text: str) -> None:
    assert of(value) == text


def test_a_request_that_is_text_has_no_value() -> None:
    assert kept(parse("Hello?", slices={"name": "request.a"})).slices == ("",)
    encoded = json.dumps(json.dumps({"prompt": "Hello?", "a": 1}))
    assert kept(parse_text(encoded, '"Hi!"', slices={"name": "request.a"})).slices == ("1",)


def test_a_column_may_be_called_request() -> None:
    raw = Raw(1, "m", '"Hello?"', '"Hi!"', "up", None, None, False, '{"request": "de"}')
    assert kept(parse_row(raw, rules(Feedback(slices={"language": "request"})))).slices == ("de",)


def test_columns_of_every_type_give_the_same_from_table_and_file(database: Database, tmp_path: Path) -> None:
    lines, path = Lines(tmp_path / "feedback.jsonl"), tmp_path / "snapshot.parquet"
    values = {"language": "de", "plan": "pro", "tier": {"a": 1}, "seats": 12, "trial": True, "tags": ["a"]}
    encoded = {name: json.dumps(values[name]) for name in ("plan", "tier")}
    database.create(TABLE + KINDS)
    database.insert(row() | values | encoded, names=(*NAMES[:4], *values))
    lines.fill(row() | values)
    for store in (database, lines):
        store.snapshot(path, store.feedback().model_copy(update={"slices": {name: name for name in values}}))
        (found,) = pq.read_table(path)["slices"].to_pylist()
        assert found == {"language": "de", "plan": "pro", "tier": "", "seats": "12", "trial": "true", "tags": ""}


def test_a_missing_column_is_named_with_the_existing_ones(store: Store) -> None:
    store.fill(row())
    feedback = store.feedback(slices={"language": "lang", "product": "request.product"})
    message = r"columns lang in .* found request_data, response_data, .*: set feedback\.slices\."
    with pytest.raises(FeedbackError, match=message) as caught:
        store.read(feedback)
    assert not caught.value.retryable


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Forty rows, every other one of which has a language."""
    lines = Lines(tmp_path / "feedback.jsonl")
    languages = ("de", None)
    lines.fill(*(row(f"question {i}") | {"language": languages[i % 2]} for i in range(40)))
    return lines


def test_held_out_rows_carry_their_slices(lines: Lines) -> None:
    whole, held = lines.path.with_name("snapshot.parquet"), lines.path.with_name("heldout.parquet")
    lines.snapshot(whole, Feedback(slices=LANGUAGE))
    count = heldout.split(whole, held)
    heldout.mark(held, {}, set())
    questions, found = heldout.questions(held), heldout.slices(held)
    assert 0 < count == len(questions) < 40
    assert found == {"language": ["de" if int(question.split()[1]) % 2 == 0 else "" for question in questions]}


def test_files_without_slices_are_read_as_having_none(lines: Lines) -> None:
    whole, held = lines.path.with_name("snapshot.parquet"), lines.path.with_name("heldout.parquet")
    lines.snapshot(whole, Feedback())
    heldout.split(whole, held)
    assert pq.read_schema(held).equals(SCHEMA)
    assert heldout.slices(held) == {}


def test_rows_kept_for_replay_have_no_slices(lines: Lines) -> None:
    whole, drawn = lines.path.with_name("snapshot.parquet"), lines.path.with_name("replay.parquet")
    lines.snapshot(whole, Feedback(slices=LANGUAGE))
    assert replay.draw(whole, drawn, size=5, seed=1) == 5
    assert pq.read_schema(drawn).equals(SCHEMA)
