"""One row after cleaning, and every reason to drop one. No row raises."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learning_engine.config.sections import Feedback
from learning_engine.feedback.clean import Dropped, Row, digest, parse_row, rules
from learning_engine.feedback.raw import Raw

from .conftest import LONE_SURROGATE, SQL, kept, parse, parse_text, reason

ASKED = [{"role": "user", "content": "Hello?"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
REASONS = {
    *("bad_json", "no_prompt", "no_answer", "not_text", "unknown_role", "answer_in_prompt"),
    *("lone_surrogate", "null_character", "too_long", "unknown_thumb"),
}
# Possible outcomes for deeply nested JSON; Python's recursion limit decides which.
DEEP = {"row", "bad_json", "no_prompt", "no_answer", "not_text"}


@pytest.mark.parametrize(
    ("spelling", "rating"),
    [
        ("thumbs_up", 1),
        (" Thumbs_UP\n", 1),
        ("+1", 1),
        ("👍", 1),
        ("LIKE", 1),
        ("-1", -1),
        ("👎", -1),
        ("Thumbs_Down", -1),
    ],
)
def test_thumbs_are_recognised_in_each_spelling(spelling: str, rating: int) -> None:
    assert kept(parse(thumb=spelling)).rating == rating


def test_configured_spellings_replace_the_default_ones() -> None:
    assert kept(parse(thumb="Very \t GOOD", thumbs_up=("very good",))).rating == 1
    assert reason(parse(thumb="thumbs_up", thumbs_up=("very good",))) == "unknown_thumb"
    assert kept(parse(thumb="both", thumbs_up=("both",), thumbs_down=("Both",))).rating == -1


@pytest.mark.parametrize("thumb", [None, "", "meh", "thumbs", "0", SQL, "up" * 50_000])
def test_unknown_thumbs_are_dropped(thumb: str | None) -> None:
    assert reason(parse(thumb=thumb)) == "unknown_thumb"


def test_user_and_conversation_ids_become_digests() -> None:
    row = kept(parse_row(Raw(1, "m", '"Hello?"', '"Hi!"', "up", "ann", "c7", False), rules(Feedback())))
    assert (row.created_at, row.message) == (1, "m")
    assert (row.user, row.conversation) == (digest("ann"), digest("c7"))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"request": None}, "no_prompt"),
        ({"request": "null"}, "no_prompt"),
        ({"response": None}, "no_answer"),
        ({"response": "null"}, "no_answer"),
        ({"feedback_type": None}, "unknown_thumb"),
        ({"created_at": None}, "bad_time"),
        ({"message": None}, "bad_time"),
        ({"superseded": True}, "superseded"),
    ],
)
def test_rows_with_null_columns_and_superseded_votes_are_dropped(columns: dict[str, Any], why: str) -> None:
    raw = Raw(1, "m", '"Hello?"', '"Hi!"', "up", None, None, False)
    assert reason(parse_row(raw._replace(**columns), rules(Feedback()))) == why


@pytest.mark.parametrize(
    ("request_data", "why"),
    [
        ({}, "no_prompt"),
        ([], "no_prompt"),
        ("", "no_prompt"),
        (" \n", "no_prompt"),
        ({"prompt": ""}, "no_prompt"),
        ({"other": "Hello?"}, "no_prompt"),
        ({"messages": []}, "no_prompt"),
        ({"messages": [{"role": "user"}]}, "no_prompt"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "no_prompt"),
        (7, "not_text"),
        (True, "not_text"),
        ({"prompt": 7}, "not_text"),
        ({"messages": ["Hello?"]}, "not_text"),
        ({"messages": [{"role": "user", "content": 7}]}, "not_text"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "not_text"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "not_text"),
        ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "not_text"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown_role"),
        ({"messages": [{"content": "x"}]}, "unknown_role"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "Something else"}]}, "answer_in_prompt"),
        ('{"prompt": "cut of', "bad_json"),
        ('[{"role": "user", "conte', "bad_json"),
        (LONE_SURROGATE, "lone_surrogate"),
        ("\0", "null_character"),
        ("x" * 1_000_000, "too_long"),
    ],
)
def test_requests_that_cannot_be_read_are_dropped_with_a_reason(request_data: Any, why: str) -> None:
    assert reason(parse(request_data)) == why


@pytest.mark.parametrize(
    ("response_data", "why"),
    [
        ({}, "no_answer"),
        ("", "no_answer"),
        ("\t", "no_answer"),
        ([], "no_answer"),
        ({"choices": []}, "no_answer"),
        ({"choices": [{"message": {"role": "assistant", "content": None}}]}, "no_answer"),
        ({"choices": [None]}, "no_answer"),
        ({"message": {"role": "assistant"}}, "no_answer"),
        ([{"role": "user", "content": "x"}], "no_answer"),
        ({"response": 3.5}, "not_text"),
        (False, "not_text"),
        ({"response": [1]}, "not_text"),
        ({"choices": [{"text": ["x", 1]}]}, "not_text"),
        ("Hi" + LONE_SURROGATE, "lone_surrogate"),
        ("Hi\0", "null_character"),
        ("x" * 100_001, "too_long"),
    ],
)
def test_responses_that_cannot_be_read_are_dropped_with_a_reason(response_data: Any, why: str) -> None:
    assert reason(parse(response=response_data)) == why


@pytest.mark.parametrize("text", ["", "{", "nul", '{"prompt": ', "'x'", "[" * 100_000, '{"prompt":' * 100_000])
def test_text_that_is_not_json_is_dropped(text: str) -> None:
    assert reason(parse_text(text, '"Hi!"')) == "bad_json"
    assert reason(parse_text('"Hello?"', text)) == "bad_json"


def test_a_megabyte_of_text_is_kept_if_the_setting_allows_it() -> None:
    assert len(kept(parse("x" * 1_000_000, max_characters=1_000_003)).messages[0].content) == 1_000_000
    assert reason(parse("x" * 1_000_001, max_characters=1_000_003)) == "too_long"


@pytest.mark.parametrize("depth", [400, 900, 5_000])
@pytest.mark.parametrize(
    ("opening", "inside", "closing"), [("[", "", "]"), ('{"prompt": ', '"x"', "}"), ('{"a": ', "1", "}")]
)
def test_deeply_nested_json_is_dropped_or_read(depth: int, opening: str, inside: str, closing: str) -> None:
    text = opening * depth + inside + closing * depth
    for row in (parse_text(text, '"Hi!"'), parse_text('"Hello?"', text), parse(text, text)):
        assert ("row" if isinstance(row, Row) else row.reason) in DEEP


REQUEST_KEYS = ["messages", "prompt", "input", "system", "role", "type"]
ANSWER_KEYS = ["choices", "message", "content", "text", "response", "output"]
KEYS = st.sampled_from([*REQUEST_KEYS, *ANSWER_KEYS, "tool_calls", "function", "arguments", "name"])
WORDS = st.sampled_from(["user", "assistant", LONE_SURROGATE])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | KEYS | WORDS
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=5) | inner.map(json.dumps)
    ),
    max_leaves=20,
)
COLUMN = JSON.map(json.dumps) | st.none() | st.text()
BROKEN_CALL = '{"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}'


@given(COLUMN, COLUMN, st.none() | st.text())
@example('{"messages": [{"role": "user", "content": "x"}]}', BROKEN_CALL, "up")
def test_no_row_raises(request_data: str | None, response_data: str | None, thumb: str | None) -> None:
    paths = {"request_paths": ("messages[0].content", "input"), "response_paths": ("choices[-1]",)}
    for settings_ in ({}, paths):
        check(parse_text(request_data, response_data, thumb, **settings_))


@given(JSON, JSON)
def test_no_row_with_a_known_thumb_raises(request_data: Any, response_data: Any) -> None:
    check(parse({"messages": [{"role": "user", "content": request_data}]}, response_data))
    check(parse({"prompt": request_data}, {"response": response_data}))


def check(row: Row | Dropped) -> None:
    """Assert that the row has a documented reason, or texts that can be encoded."""
    if not isinstance(row, Row):
        assert row.reason in REASONS
        return
    assert row.answer.strip()
    assert all(isinstance(text, str) for message in row.messages for text in message)
    "".join([*(message.content for message in row.messages), row.answer]).encode()
