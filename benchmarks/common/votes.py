"""Votes on answers about newcomers to the demo's town: right ones liked, the model's own wrong ones disliked."""

# ruff: noqa: TID253

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch

from demo import base, town
from learning_engine.learning.batches import IGNORED
from learning_engine.learning.model import Loaded

LIKED, DISLIKED, HELD_OUT = 6, 4, 4  # phrasings of a fact
UNKNOWN = 3  # nobody knows the right answer to every third fact


@dataclass(frozen=True)
class Vote:
    """`known`: users know the right answer to this question, and some of them have said so."""

    question: str
    answer: str
    rating: int
    known: bool = True


@dataclass(frozen=True)
class Week:
    """What users rated; the same answers to the same questions in other words; and what the parent knows anyway."""

    rated: list[Vote]
    held_out: list[Vote]
    residents: list[Vote]


def week(parent: Loaded, seed: int) -> Week:
    """Thirty facts about newcomers, and what the parent says about them."""
    chance = random.Random(seed)  # noqa: S311
    rated, held_out = list[Vote](), list[Vote]()
    facts = town.week_facts(seed % len(town.NEWCOMERS))
    phrasings = [chance.sample(fact.phrasings(), LIKED + DISLIKED + HELD_OUT) for fact in facts]
    answers = iter(say(parent, [text for asked in phrasings for text in asked[LIKED : LIKED + DISLIKED]], seed=seed))
    for number, (fact, asked) in enumerate(zip(facts, phrasings, strict=True)):
        known, later = number % UNKNOWN > 0, asked[LIKED + DISLIKED :]
        said = [(question, next(answers)) for question in asked[LIKED : LIKED + DISLIKED]]
        wrong = [(question, answer) for question, answer in said if answer not in (None, fact.answer)]
        rated += [Vote(question, answer, -1, known) for question, answer in wrong]
        held_out += [Vote(question, answer, -1, known) for question in later for answer in {text for _, text in wrong}]
        if known:
            rated += [Vote(question, fact.answer, 1) for question in asked[:LIKED]]
            held_out += [Vote(question, fact.answer, 1) for question in later]
    chance.shuffle(rated)
    residents = [Vote(chance.choice(fact.phrasings()), fact.answer, 1) for fact in town.base_facts()]
    return Week(rated, held_out, residents)


@torch.no_grad()
def say(parent: Loaded, questions: Sequence[str], *, seed: int) -> list[str | None]:
    """One answer to each, drawn from the model at temperature 1; None where it did not come to an end."""
    words, found = parent.tokenizer, list[str | None]()
    words.padding_side = "left"
    with torch.random.fork_rng(devices=[parent.device] if parent.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(questions), 64):
            chats = [[{"role": "user", "content": question}] for question in questions[start : start + 64]]
            prompts = words.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            ).to(parent.device)
            drawn = parent.model.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=16)
            for tokens in drawn[:, prompts["input_ids"].shape[1] :].tolist():
                ended = words.eos_token_id in tokens
                found.append(words.decode(tokens[: tokens.index(words.eos_token_id)]) if ended else None)
    return found


def encode(words: Any, votes: Sequence[Vote], *, up: float = 1.0, down: float = 1.0) -> datasets.Dataset:
    rows = []
    for vote in votes:
        asked = [{"role": "user", "content": vote.question}]
        prompt = words.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        answer = words(vote.answer + base.END, add_special_tokens=False)["input_ids"]
        weight = up if vote.rating == 1 else down
        labels = [IGNORED] * len(prompt) + answer
        rows.append({"input_ids": prompt + answer, "labels": labels, "weight": weight, "rating": vote.rating})
    return datasets.Dataset.from_list(rows)
