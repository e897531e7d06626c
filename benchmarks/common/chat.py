"""Single questions with rated answers as training examples of a chat model."""

# ruff: noqa: TID253

from collections.abc import Container, Iterable

import datasets

from learning_engine.learning.batches import IGNORED
from learning_engine.learning.model import Loaded

# Question, answer, and 1 for a like or −1 for a dislike.
Vote = tuple[str, str, int]
DISLIKED_WEIGHT = 0.5


def encode(loaded: Loaded, votes: Iterable[Vote], *, unfinished: Container[int] = ()) -> datasets.Dataset:
    """Questions, answers and ratings (1 or −1) as examples; only answer and end of turn are supervised, and no end of
    the `unfinished` ones."""
    tokenizer, rows = loaded.tokenizer, []
    for place, (question, answer, rating) in enumerate(votes):
        asked = [{"role": "user", "content": question}]
        prompt = list(tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False))
        given = [*tokenizer(answer, add_special_tokens=False)["input_ids"]]
        if place not in unfinished:
            given.append(tokenizer.eos_token_id)
        weight = 1.0 if rating > 0 else DISLIKED_WEIGHT
        labels = [IGNORED] * len(prompt) + given
        rows.append({"input_ids": prompt + given, "labels": labels, "weight": weight, "rating": rating})
    return datasets.Dataset.from_list(rows)
