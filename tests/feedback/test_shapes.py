"""Every format in which applications log a request and a response."""

import json
from typing import Any

import pytest

from learning_engine.config.sections import Feedback
from learning_engine.errors import ConfigError
from learning_engine.feedback.clean import digest, rules

from .conftest import SQL, kept, parse

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}
ASKED = [("user", "Hello?")]
PATHS = {"request_paths": ("body.turns[0].text", "alt"), "response_paths": ("out[-1]",)}


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
def test_every_format_of_a_request_gives_the_same_messages(request_data: Any) -> None:
    assert kept(parse(request_data)).messages == ASKED


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
        {"generated_text": "Hi!"},
        {"text": "Hi!"},
        {"content": "Hi!"},
        {"content": [{"type": "text", "text": "Hi!"}]},
        {"message": {"role": "assistant", "content": "Hi!"}},
        {"role": "assistant", "content": "Hi!"},
        [*CHAT["messages"], {"role": "assistant", "content": "Hi!"}],
        {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi!"}]}]},
        {"response": {"choices": [{"text": "Hi!"}]}},
        json.dumps({"response": "Hi!"}),
        json.dumps("Hi!"),
    ],
)
def test_every_format_of_a_response_gives_the_same_answer(response_data: Any) -> None:
    assert kept(parse(response=response_data)).answer == "Hi!"


@pytest.mark.parametrize(
    ("logged", "role"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("human", "user"),
        ("assistant", "assistant"),
        ("ai", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_logged_roles_become_known_roles(logged: str, role: str) -> None:
    messages = [{"role": logged, "content": "x"}, {"role": "user", "content": "Hello?"}]
    assert kept(parse(messages)).messages == [(role, "x"), *ASKED]


def test_tool_calls_become_text() -> None:
    call = {"type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "1"},
    ]
    row = kept(parse({"messages": messages}))
    assert row.messages == [
        ("system", "Be brief."),
        ("user", "What time is it?"),
        ("assistant", '{"name": "clock", "parameters": {"zone": "UTC"}}'),
        ("tool", "12:00"),
    ]
    assert row.conversation == digest("What time is it?")
    called = {"choices": [{"message": {"role": "assistant", "content": "", "tool_calls": [call, call]}}]}
    assert kept(parse(response=called)).answer == "\n".join([row.messages[2].content] * 2)


def test_a_system_prompt_next_to_the_messages_comes_first() -> None:
    assert kept(parse({"system": "Be brief.", **CHAT})).messages == [("system", "Be brief."), *ASKED]


@pytest.mark.parametrize("text", ["[laughs] Hello", '"To be" or not', "[1, 2, 3]", " \n42", "true", SQL])
def test_plain_text_that_looks_like_json_stays_unchanged(text: str) -> None:
    row = kept(parse(text, text))
    assert (row.messages, row.answer) == ([("user", text)], text)


@pytest.mark.parametrize(
    ("request_data", "response_data"),
    [
        ({"prompt": ...}, {"response": ...}),
        ({"messages": [{"role": "user", "content": ...}]}, {"choices": [{"text": ...}]}),
        ({"input": ...}, {"choices": [{"message": {"content": ...}}]}),
        ({"in": ...}, {"out": ...}),
    ],
)
@pytest.mark.parametrize("text", ['{"answer": "x"}', '{"a": 1} is what?', '[{"role": "user"}]', '"quoted"'])
def test_a_prompt_or_answer_that_is_json_stays_text(text: str, request_data: Any, response_data: Any) -> None:
    """`...` is the placeholder for the text."""
    row = kept(
        parse(_put(text, request_data), _put(text, response_data), request_paths=("in",), response_paths=("out",))
    )
    assert (row.messages, row.answer) == ([("user", text)], text)


def _put(text: str, shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _put(text, value) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_put(text, item) for item in shape]
    return text if shape is ... else shape


@pytest.mark.parametrize(
    ("request_data", "response_data"),
    [
        ({"body": {"turns": [{"text": "Hello?"}]}, "alt": "no", "prompt": "no"}, {"out": ["no", "Hi!"], "text": "no"}),
        ({"alt": CHAT, "prompt": "no"}, {"out": [], "text": "Hi!"}),
        ({"body": json.dumps({"turns": [{"text": "Hello?"}]})}, json.dumps({"out": ["Hi!"]})),
        ({"body": {"turns": []}, "prompt": "Hello?"}, {"out": {"-1": "no"}, "text": "Hi!"}),
        ({"body": 7, "prompt": "Hello?"}, "Hi!"),
    ],
)
def test_configured_paths_are_tried_in_order_before_the_known_shapes(request_data: Any, response_data: Any) -> None:
    row = kept(parse(request_data, response_data, **PATHS))
    assert (row.messages, row.answer) == (ASKED, "Hi!")


@pytest.mark.parametrize("paths", ["request_paths", "response_paths"])
@pytest.mark.parametrize("path", ["", "a..b", "a[x]", "[0", "a b]"])
def test_an_invalid_path_is_refused(path: str, paths: str) -> None:
    with pytest.raises(ConfigError, match="Expected a path such as"):
        rules(Feedback(**{paths: (path,)}))
