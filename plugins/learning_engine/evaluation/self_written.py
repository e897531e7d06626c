"""Conversations that the base model writes by itself: its behaviour as data, without any user's text.

Prompts are sampled by giving the base its chat template up to the place of the user's text; only those that the model
ends by itself are kept. Answers are greedy, as a server gives them at temperature 0, and may be unfinished: their
beginning shows most of how the base answers, and whole answers would take most of the time of a training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import torch

from learning_engine.evaluation import greedy
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.views import Views

PLACEHOLDER = "placeholder"
SAMPLING = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.0}
PROMPT_TOKENS, LEAST_CHARACTERS = 64, 8
# A base that rarely ends a prompt is given up after this many samples for each one wanted.
SAMPLES_PER_PROMPT = 4


@dataclass(frozen=True)
class Conversation:
    messages: Messages
    answer: str
    unfinished: bool


def prompts(views: Views, *, count: int, batch_size: int, seed: int) -> list[Messages]:
    """At most `count` different user prompts in the words of the base model; none if its template has no place for one.

    Equal arguments give equal prompts on the same machine.
    """
    place = _place_of_user_text(views.tokenizer)
    if place is None:
        return []
    before, end = place
    found: dict[str, None] = {}
    devices = [views.device] if views.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), views.using("base"), torch.no_grad():
        torch.manual_seed(seed)
        start = torch.tensor([before] * batch_size, device=views.device)
        for _ in range(-(-SAMPLES_PER_PROMPT * count // batch_size)):
            output = views.model.generate(
                input_ids=start,
                attention_mask=torch.ones_like(start),
                max_new_tokens=PROMPT_TOKENS,
                eos_token_id=end,
                pad_token_id=end,
                **SAMPLING,
            )
            for row in output[:, len(before) :].tolist():
                if end in row:
                    text = views.tokenizer.decode(row[: row.index(end)]).strip()
                    found |= {text: None} if len(text) >= LEAST_CHARACTERS else {}
            if len(found) >= count:
                break
    return [[{"role": "user", "content": text}] for text in list(found)[:count]]


def answered(views: Views, asked: Sequence[Messages], *, tokens: int, batch_size: int) -> list[Conversation]:
    """The base's greedy answers to the prompts `asked`, unfinished after `tokens` tokens; empty ones are left out."""
    rendered = [render(views.tokenizer, messages) for messages in asked]
    answers = greedy.answers(views, "base", rendered, tokens=tokens, batch_size=batch_size)
    # An answer may be cut within a character, which decodes to the replacement character.
    texts = [views.tokenizer.decode(answer, skip_special_tokens=True).rstrip("\ufffd").strip() for answer in answers]
    return [
        Conversation(messages, text, unfinished=len(answer) == tokens)
        for messages, text, answer in zip(asked, texts, answers, strict=True)
        if text
    ]


def _place_of_user_text(tokenizer: Any) -> tuple[list[int], int] | None:
    """The tokens before the text of a first user message, and the token that ends it; None if the template has no such
    place."""
    try:
        whole = tokenizer.apply_chat_template([{"role": "user", "content": PLACEHOLDER}], tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError):
        return None
    before, found, after = whole.partition(PLACEHOLDER)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
    return (before, after[0]) if found and before and after else None
