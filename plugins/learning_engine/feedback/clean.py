"""Turn one raw row into a clean row, or into the reason why it is dropped. No row raises, even a corrupt one.

Reasons: `superseded` (the user voted again), `bad_json` (not JSON, or nested too deeply), `no_prompt`, `no_answer`,
`not_text` (an image, a number), `unknown_role`, `answer_in_prompt` (the conversation ends with another answer),
`lone_surrogate`, `null_character`, `too_long`, `bad_time`, `unknown_thumb`. snapshot.py adds `over_user_cap`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Any, NamedTuple

from learning_engine.config.sections import Feedback
from learning_engine.feedback import raw, slices
from learning_engine.feedback.raw import Raw
from learning_engine.feedback.shapes import Message, Path, Unreadable, answer_of, compile_path, prompt_of


class Row(NamedTuple):
    """One rated answer. `created_at` in microseconds since 1970; `message`, `conversation` and `user` are sha256.
    `slices` are in the order of feedback.slices."""

    created_at: int
    message: str
    conversation: str
    user: str | None
    messages: list[Message]
    answer: str
    rating: int
    slices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dropped:
    reason: str


@dataclass(frozen=True)
class Rules:
    """The cleaning settings, compiled."""

    ratings: Mapping[str, int]
    request_paths: tuple[Path, ...]
    response_paths: tuple[Path, ...]
    max_characters: int
    slices: tuple[Path, ...] = ()


def rules(feedback: Feedback) -> Rules:
    """Raises ConfigError if a path does not have the form `a.b[0].c`."""
    return Rules(
        raw.ratings(feedback),
        tuple(map(compile_path, feedback.request_paths)),
        tuple(map(compile_path, feedback.response_paths)),
        feedback.max_characters,
        slices.paths(feedback),
    )


def parse_row(row: Raw, rules: Rules) -> Row | Dropped:
    try:
        return _parse(row, rules)
    except Unreadable as error:
        return Dropped(str(error))
    except RecursionError:
        return Dropped("bad_json")


def _parse(row: Raw, rules: Rules) -> Row:
    if row.superseded:
        raise Unreadable("superseded")
    request, response = _load(row.request), _load(row.response)
    messages = prompt_of(request, rules.request_paths)
    answer = answer_of(response, rules.response_paths)
    messages = _chat_prompt(messages, answer)
    _check_text([*(message.content for message in messages), answer], rules.max_characters)
    if row.created_at is None or row.message is None:
        raise Unreadable("bad_time")
    rating = rules.ratings.get(raw.fold(row.feedback_type or ""))
    if rating is None:
        raise Unreadable("unknown_thumb")
    conversation = row.conversation or next(message.content for message in messages if message.role == "user")
    return Row(
        row.created_at,
        row.message,
        digest(conversation),
        None if row.user is None else digest(row.user),
        messages,
        answer,
        rating,
        slices.values(rules.slices, request=request, response=response, columns=_load(row.slices)),
    )


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def text_digest(messages: Iterable[tuple[str, str]], answer: str) -> str:
    """The sha256 of prompt and answer. It is equal for equal texts, while `message` also differs by what else a log
    records of a response, such as its id."""
    # Cleaning drops texts with a null character, so it can separate them here.
    return digest("\0".join([*chain.from_iterable(messages), answer]))


def _load(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise Unreadable("bad_json") from None


def _chat_prompt(messages: list[Message], answer: str) -> list[Message]:
    """The messages to prompt with: without the rated answer, which some logs repeat at the end of the request."""
    if not answer.strip():
        raise Unreadable("no_answer")
    if messages and messages[-1].role == "assistant":
        if messages[-1].content != answer:
            raise Unreadable("answer_in_prompt")
        messages = messages[:-1]
    if not any(message.role == "user" and message.content.strip() for message in messages):
        raise Unreadable("no_prompt")
    return messages


def _check_text(texts: list[str], max_characters: int) -> None:
    if sum(map(len, texts)) > max_characters:
        raise Unreadable("too_long")
    text = "".join(texts)
    if "\0" in text:
        raise Unreadable("null_character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("lone_surrogate") from None
