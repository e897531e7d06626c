"""Read chat messages and an answer from the formats in which applications log requests and responses.

Formats: OpenAI chat and completion requests and responses, a bare list of messages, `{"prompt": …}` and
`{"response": …}` with their common variants, plain strings, and each of these encoded as a JSON string. Only the whole
value, `messages` and values along a configured path are decoded again: a prompt or answer that is JSON stays text.
"""

import json
import re
from typing import Any, NamedTuple

from learning_engine.errors import ConfigError

PROMPT_KEYS = ("messages", "prompt", "input", "question", "query")
ANSWER_KEYS = ("response", "output", "answer", "completion", "generated_text", "text", "content")
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
}
TEXT_PARTS = ("text", "input_text", "output_text")
BROKEN_JSON = re.compile(r'\s*(\{|\[\s*[{["])')
STEP = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(-?\d+)\]")


class Unreadable(Exception):
    """This row cannot be read; the argument is the reason under which it is counted."""


class Message(NamedTuple):
    role: str
    content: str


Path = tuple[str | int, ...]


def compile_path(path: str) -> Path:
    """Split `a.b[0].c` into steps. Raises ConfigError for any other form."""
    steps = list(STEP.finditer(path))
    if not steps or "".join(step[0] for step in steps) != path:
        raise ConfigError(f"Expected a path such as 'body.messages[0].content', found {path!r}: fix feedback.*_paths.")
    return tuple(step[1] if step[1] is not None else int(step[2]) for step in steps)


def prompt_of(data: Any, paths: tuple[Path, ...]) -> list[Message]:
    """The messages sent to the model. Raises Unreadable."""
    data = unwrap(data)
    for path in paths:
        if (found := follow(data, path)) is not None:
            return _prompt(found)
    return _prompt(data)


def answer_of(data: Any, paths: tuple[Path, ...]) -> str:
    """The text that the user rated. Raises Unreadable."""
    data = unwrap(data)
    for path in paths:
        if (found := follow(data, path)) is not None:
            return _answer(found)
    return _answer(data)


def unwrap(value: Any) -> Any:
    """Decode a string that holds JSON; return plain text unchanged, including a list of numbers."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[", '"')):
        return value
    try:
        inner = json.loads(value)
    except ValueError:
        if BROKEN_JSON.match(value):
            raise Unreadable("bad_json") from None
        return value
    if isinstance(inner, list) and not (inner and isinstance(inner[0], dict)):
        return value
    return inner


def follow(data: Any, path: Path) -> Any:
    """The value at `path`, None if there is none. Raises Unreadable for broken JSON on the way."""
    for step in path:
        data = unwrap(data)
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and -len(data) <= step < len(data):
            data = data[step]
        else:
            return None
    return data


def _prompt(data: Any) -> list[Message]:
    if isinstance(data, str):
        return [Message("user", data)]
    if isinstance(data, list):
        return [_message(item) for item in data]
    if not isinstance(data, dict):
        raise Unreadable("no_prompt" if data is None else "not_text")
    for key in PROMPT_KEYS:
        if (inner := data.get(key)) is not None:
            system = data.get("system")
            messages = _prompt(unwrap(inner) if key == "messages" else inner)
            return ([Message("system", _content(system))] if system else []) + messages
    raise Unreadable("no_prompt")


def _answer(data: Any) -> str:
    if isinstance(data, list):
        return _answer_of_list(data)
    if not isinstance(data, dict):
        return _content(data, missing="no_answer")
    if isinstance(choices := data.get("choices"), list) and choices:
        return _answer(choices[0])
    if isinstance(message := data.get("message"), dict):
        return _message_text(message, missing="no_answer")
    for key in ANSWER_KEYS:
        if (inner := data.get(key)) is not None:
            return _answer(inner)
    raise Unreadable("no_answer")


def _answer_of_list(items: list[Any]) -> str:
    messages = [item for item in items if isinstance(item, dict) and "role" in item]
    if not messages:
        return _content(items, missing="no_answer")
    if messages[-1]["role"] != "assistant":
        raise Unreadable("no_answer")
    return _message_text(messages[-1], missing="no_answer")


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise Unreadable("not_text")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Unreadable("unknown_role")
    return Message(ROLES[role], _message_text(item, missing="no_prompt"))


def _message_text(message: dict[str, Any], *, missing: str) -> str:
    """A message's text. If it has none but calls tools, the calls as JSON, one per line."""
    content = message.get("content")
    calls = message.get("tool_calls")
    if content or not (isinstance(calls, list) and calls):
        return _content(content, missing=missing)
    return "\n".join(json.dumps(_call(call), ensure_ascii=False) for call in calls)


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise Unreadable("not_text")
    return {"name": function.get("name"), "parameters": unwrap(function.get("arguments"))}


def _content(content: Any, *, missing: str = "no_prompt") -> str:
    """The text, or the joined texts of a list of parts."""
    if content is None:
        raise Unreadable(missing)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unreadable("not_text")
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type", "text") in TEXT_PARTS:
        part = part.get("text")
    if not isinstance(part, str):
        raise Unreadable("not_text")
    return part
