"""The canonical text equals PostgreSQL's own."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from learning_engine.feedback.canonical import canonical, message_digest, parse

from .conftest import Database

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?\Z").map(Decimal)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@example({"bb": 1, "a": 2, "é": 3, "aa": 4, "😀": 5, "": 6})
@example('\u007f\u2028"\\/\b\f\n\r\t\u0001')
@example([Decimal("1e2"), Decimal("-0"), Decimal("-0.0"), Decimal("0e5"), Decimal("1.50e1"), Decimal("1E-7")])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_canonical_text_equals_that_of_jsonb(connection: Any, value: Any) -> None:
    text = canonical(value)
    ((there, digest),) = connection.execute(
        "SELECT j::text, encode(sha256(convert_to(jsonb_build_array(j, NULL)::text, 'UTF8')), 'hex') "
        "FROM (SELECT %s::jsonb AS j) v",
        (text,),
    ).fetchall()
    assert text == there
    assert message_digest(text, canonical(None)) == digest


@pytest.mark.parametrize("spelling", ['{"b":1.0,"a":[1,2]}', ' { "a" : [ 1 , 2 ] , "b" : 0 , "b" : 1.0 } '])
def test_every_spelling_gives_the_text_of_the_database(database: Database, spelling: str) -> None:
    assert (
        canonical(parse(spelling))
        == database.sql("SELECT %s::jsonb::text", spelling)[0][0]
        == '{"a": [1, 2], "b": 1.0}'
    )


def test_values_that_jsonb_cannot_hold_also_have_a_canonical_text() -> None:
    assert canonical(["\ud800é", "\0"]) == '["\\ud800é", "\\u0000"]'
    assert json.loads(canonical({"\udfff": "\ud800"})) == {"\udfff": "\ud800"}
    assert canonical(parse("1e999999999")) == "1E+999999999"
    assert canonical([float("nan"), float("inf")]) == "[null, null]"
    assert canonical({"day": date(2026, 1, 5)}) == '{"day": "2026-01-05"}'  # as Parquet holds it
