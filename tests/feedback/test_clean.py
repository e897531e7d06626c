"""Every shape in which rows come, and every reason to drop one."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learning_engine.errors import ConfigError
from learning_engine.feedback.clean import Dropped, Row, digest, parse_row, rules
from learning_engine.feedback.raw import Raw
from learning_engine.sections import Feedback

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
ASKED = [("user", "Hello?")]
LONE = "\ud800"


def parse(
    request: Any = "Hello?", response: Any = "Hi!", thumb: str | None = "thumbs_up", **settings: Any
) -> Row | Dropped:
    return parse_text(json.dumps(request), json.dumps(response), thumb, **settings)


def parse_text(
    request: str | None, response: str | None, thumb: str | None = "thumbs_up", **settings: Any
) -> Row | Dropped:
    return parse_row(Raw(1, "m", request, response, thumb, None, None, False), rules(Feedback(**settings)))


def reason(row: Row | Dropped) -> str:
    assert isinstance(row, Dropped), row
    return row.reason


@pytest.mark.parametrize(
    "request_data",
    [
        CHAT,
        CHAT["messages"],
        "Hello?",
        {"prompt": "Hello?"},
        {"input": "Hello?", "prompt": None},
        {"question": "Hello?"},
        {"query": "Hello?"},
        {"prompt": CHAT["messages"]},
        {"input": CHAT},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo?"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}]},
        {"messages": [{"role": "user", "content": ["Hello?"]}]},
        {"messages": [*CHAT["messages"], {"role": "assistant", "content": "Hi!"}]},  # the log repeats the answer
        json.dumps(CHAT),
        json.dumps(CHAT["messages"]),
        json.dumps("Hello?"),
        {"messages": json.dumps(CHAT["messages"])},
    ],
)
def test_shapes_of_requests(request_data: Any) -> None:
    row = parse(request_data)
    assert isinstance(row, Row), row
    assert row.messages == ASKED


@pytest.mark.parametrize(
    "response_data",
    [
        "Hi!",
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi!"}}, {"text": "no"}]},
        {"choices": [{"text": "Hi!"}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": "Hi!"}]}}]},
        {"response": "Hi!"},
        {"output": "Hi!"},
        {"answer": "Hi!"},
        {"completion": "Hi!"},
        {"text": "Hi!"},
        {"content": "Hi!"},
        {"content": [{"type": "text", "text": "Hi!"}]},
        {"message": {"role": "assistant", "content": "Hi!"}},
        {"role": "assistant", "content": "Hi!"},
        [*CHAT["messages"], {"role": "assistant", "content": "Hi!"}],
        {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi!"}]}]},
        {"generated_text": "Hi!"},
        {"response": {"choices": [{"text": "Hi!"}]}},
        json.dumps({"response": "Hi!"}),
        json.dumps("Hi!"),
    ],
)
def test_shapes_of_responses(response_data: Any) -> None:
    row = parse(response=response_data)
    assert isinstance(row, Row), row
    assert row.answer == "Hi!"


def test_roles_and_tools() -> None:
    call = {"type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "1"},
    ]
    row = parse({"messages": messages})
    assert isinstance(row, Row)
    assert row.messages == [
        ("system", "Be brief."),
        ("user", "What time is it?"),
        ("assistant", '{"name": "clock", "parameters": {"zone": "UTC"}}'),
        ("tool", "12:00"),
    ]
    assert row.conversation == digest("What time is it?")


def test_a_system_prompt_beside_the_messages() -> None:
    row = parse({"system": "Be brief.", **CHAT})
    assert isinstance(row, Row)
    assert row.messages == [("system", "Be brief."), *ASKED]


@pytest.mark.parametrize("text", ["[laughs] Hello", '"To be" or not', "[1, 2, 3]", " \n42", "true", "SELECT 1; --"])
def test_plain_text_that_looks_like_json_stays_as_it_is(text: str) -> None:
    row = parse(text, text)
    assert isinstance(row, Row), row
    assert (row.messages[0].content, row.answer) == (text, text)


@pytest.mark.parametrize("text", ['{"answer": "x"}', '{"a": 1} is what?', '[{"role": "user"}]', '"quoted"'])
def test_json_that_the_model_was_asked_or_said_is_text(text: str) -> None:
    for request in ({"prompt": text}, {"messages": [{"role": "user", "content": text}]}):
        for response in (
            {"response": text},
            {"choices": [{"text": text}]},
            {"choices": [{"message": {"content": text}}]},
        ):
            row = parse(request, response)
            assert isinstance(row, Row), row
            assert (row.messages, row.answer) == ([("user", text)], text)
    row = parse({"in": text}, {"out": text}, request_paths=("in",), response_paths=("out",))
    assert isinstance(row, Row), row
    assert (row.messages, row.answer) == ([("user", text)], text)


def test_configured_paths_come_first_and_the_shapes_after_them() -> None:
    paths = {"request_paths": ("body.turns[0].text", "alt"), "response_paths": ("out[-1]",)}
    row = parse(
        {"body": {"turns": [{"text": "Hello?"}]}, "prompt": "no"}, {"out": ["no", "Hi!"], "text": "no"}, **paths
    )
    assert isinstance(row, Row)
    assert (row.messages, row.answer) == (ASKED, "Hi!")
    row = parse({"alt": CHAT}, {"out": [], "text": "Hi!"}, **paths)
    assert isinstance(row, Row)
    assert (row.messages, row.answer) == (ASKED, "Hi!")
    row = parse({"body": json.dumps({"turns": [{"text": "Hello?"}]})}, "Hi!", **paths)
    assert isinstance(row, Row)
    assert row.messages == ASKED


@pytest.mark.parametrize("path", ["", "a..b", "a[x]", "[0", "a b]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="Expected a path such as"):
        rules(Feedback(request_paths=(path,)))


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
def test_spellings_of_thumbs(spelling: str, rating: int) -> None:
    row = parse(thumb=spelling)
    assert isinstance(row, Row)
    assert row.rating == rating


def test_configured_spellings_of_thumbs() -> None:
    row = parse(thumb="Very \t GOOD", thumbs_up=("very good",))
    assert isinstance(row, Row)
    assert reason(parse(thumb="thumbs_up", thumbs_up=("very good",))) == "unknown_thumb"


@pytest.mark.parametrize("thumb", [None, "", "meh", "thumbs", "0", "'; DROP TABLE feedback; --", "up" * 50_000])
def test_unknown_thumbs(thumb: str | None) -> None:
    assert reason(parse(thumb=thumb)) == "unknown_thumb"


@pytest.mark.parametrize(
    ("request_data", "why"),
    [
        (None, "no_prompt"),
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
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            "not_text",
        ),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "not_text"),
        ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "not_text"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown_role"),
        ({"messages": [{"content": "x"}]}, "unknown_role"),
        ({"messages": [*CHAT["messages"], {"role": "assistant", "content": "Something else"}]}, "answer_in_prompt"),
        ('{"prompt": "cut of', "bad_json"),
        ('[{"role": "user", "conte', "bad_json"),
        (LONE, "lone_surrogate"),
        ("\0", "null_character"),
        ("x" * 1_000_000, "too_long"),
    ],
)
def test_requests_that_cannot_be_read(request_data: Any, why: str) -> None:
    assert reason(parse(request_data)) == why


@pytest.mark.parametrize(
    ("response_data", "why"),
    [
        (None, "no_answer"),
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
        ("Hi" + LONE, "lone_surrogate"),
        ("Hi\0", "null_character"),
        ("x" * 100_001, "too_long"),
    ],
)
def test_responses_that_cannot_be_read(response_data: Any, why: str) -> None:
    assert reason(parse(response=response_data)) == why


@pytest.mark.parametrize("text", ["", "{", "nul", '{"prompt": ', "'x'", "[" * 100_000, '{"prompt":' * 100_000])
def test_text_that_is_no_json(text: str) -> None:
    assert reason(parse_text(text, '"Hi!"')) == "bad_json"
    assert reason(parse_text('"Hello?"', text)) == "bad_json"


@pytest.mark.parametrize("depth", [400, 900, 5_000])
def test_deeply_nested_json_is_dropped_or_read(depth: int) -> None:
    for text in (
        "[" * depth + "]" * depth,
        '{"prompt": ' * depth + '"x"' + "}" * depth,
        '{"a": ' * depth + "1" + "}" * depth,
    ):
        assert isinstance(parse_text(text, '"Hi!"'), Row | Dropped)
        assert isinstance(parse_text('"Hello?"', text), Row | Dropped)
        assert isinstance(parse(text, text), Row | Dropped)  # once more as text of JSON


def test_null_columns_and_superseded_votes() -> None:
    assert reason(parse_text(None, '"Hi!"')) == "no_prompt"
    assert reason(parse_text('"Hello?"', None)) == "no_answer"
    assert reason(parse_row(Raw(1, "m", '"a"', '"b"', "up", None, None, True), rules(Feedback()))) == "superseded"
    assert reason(parse_row(Raw(None, "m", '"a"', '"b"', "up", None, None, False), rules(Feedback()))) == "bad_time"


def test_a_megabyte_of_text_is_a_row_where_the_setting_allows_it() -> None:
    row = parse("x" * 1_000_000, max_characters=1_000_003)
    assert isinstance(row, Row)
    assert reason(parse("x" * 1_000_001, max_characters=1_000_003)) == "too_long"


def test_ids_are_digests() -> None:
    row = parse_row(Raw(1, "m", '"Hello?"', '"Hi!"', "up", "ann", "c7", False), rules(Feedback()))
    assert isinstance(row, Row)
    assert (row.user, row.conversation) == (digest("ann"), digest("c7"))


ANSWER_KEYS = ["choices", "message", "content", "text", "response", "output"]
REQUEST_KEYS = ["messages", "prompt", "input", "system", "role", "type"]
KEYS = st.sampled_from([*REQUEST_KEYS, *ANSWER_KEYS, "tool_calls", "function", "arguments", "name"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | KEYS
    | st.sampled_from(["user", "assistant", LONE]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=5) | inner.map(json.dumps)
    ),
    max_leaves=20,
)


@given(
    JSON.map(json.dumps) | st.none() | st.text(), JSON.map(json.dumps) | st.none() | st.text(), st.none() | st.text()
)
@example(
    '{"messages": [{"role": "user", "content": "x"}]}',
    '{"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}',
    "up",
)
@settings(max_examples=1500, deadline=None)
def test_no_row_raises(request_data: str | None, response_data: str | None, thumb: str | None) -> None:
    paths = {"request_paths": ("messages[0].content", "input"), "response_paths": ("choices[-1]",)}
    for settings_ in ({}, paths):
        row = parse_text(request_data, response_data, thumb, **settings_)
        if isinstance(row, Row):
            assert row.answer.strip()
            assert all(isinstance(text, str) for message in row.messages for text in message)
            "".join([*(message.content for message in row.messages), row.answer]).encode()


@given(JSON, JSON)
@settings(max_examples=500, deadline=None)
def test_no_row_with_a_known_thumb_raises(request_data: Any, response_data: Any) -> None:
    said = {"messages": [{"role": "user", "content": request_data}]}
    assert isinstance(parse(said, response_data), Row | Dropped)
    assert isinstance(parse({"prompt": request_data}, {"response": response_data}), Row | Dropped)
