"""Prompts for measuring drift and finding probes: from the configured file, or the built-in list."""

import json
from pathlib import Path
from typing import Any

import jinja2

from learning_engine import telemetry
from learning_engine.errors import ConfigError

Messages = list[dict[str, str]]
BUILT_IN = Path(__file__).with_name("prompts.jsonl")


def read(path: str | None, *, limit: int) -> list[Messages]:
    """The first `limit` prompts of a JSON lines file, or of the built-in list where `path` is None.

    A line is {"prompt": text}, {"messages": [{"role", "content"}, …]} or plain text. Raises ConfigError.
    """
    file = Path(path) if path else BUILT_IN
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"evaluation.prompts: expected a readable UTF-8 file of JSON lines at {file}, found {type(error).__name__}."
        ) from error
    prompts = [_parse(line, number, file) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise ConfigError(f"evaluation.prompts: expected at least one prompt in {file}, found none.")
    return prompts[:limit]


def renderable(tokenizer: Any, prompts: list[Messages]) -> list[Messages]:
    """The prompts that the chat template can render: some templates accept no system prompt. Raises ConfigError if it
    can render none."""
    kept = [messages for messages in prompts if _is_renderable(tokenizer, messages)]
    if not kept:
        raise ConfigError(
            f"evaluation.prompts: expected at least one prompt that the base model's chat template accepts, found "
            f"none among {len(prompts)}: use prompts that begin with the user and alternate roles."
        )
    if refused := len(prompts) - len(kept):
        telemetry.event("evaluate.prompts_refused", refused=refused, of=len(prompts))
    return kept


def render(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of `messages` in the chat template, up to the start of the answer."""
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return [int(token) for token in ids]


def _is_renderable(tokenizer: Any, messages: Messages) -> bool:
    try:
        render(tokenizer, messages)
    except (jinja2.TemplateError, TypeError, ValueError):
        return False
    return True


def _parse(line: str, number: int, file: Path) -> Messages:
    text = line.strip()
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) and text[0] != "{":
        value = {"prompt": value if isinstance(value, str) else text}
    match value:
        case {"prompt": str() as prompt}:
            return [{"role": "user", "content": prompt}]
        case {"messages": [_, *_] as messages} if all(_is_message(message) for message in messages):
            return [{"role": message["role"], "content": message["content"]} for message in messages]
    raise ConfigError(
        f'evaluation.prompts: expected {{"prompt": text}}, {{"messages": [...]}} or plain text, found something else '
        f"in line {number} of {file}."
    )


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
