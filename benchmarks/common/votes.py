"""Votes on answers about newcomers to the demo's town: users like right answers and dislike the model's wrong ones."""

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

LIKED, DISLIKED, HELD_OUT = 6, 4, 4  # phrasings per fact
UNKNOWN = 3  # for every third fact, no user knows the right answer


@dataclass(frozen=True)
class Vote:
    """`known`: users know the right answer to this question, and some liked it."""

    question: str
    answer: str
    rating: int
    known: bool = True


@dataclass(frozen=True)
class Week:
    """Rated answers; the same answers to held-out phrasings of the questions; and facts that the parent knows."""

    rated: list[Vote]
    held_out: list[Vote]
    residents: list[Vote]


def week(parent: Loaded, seed: int) -> Week:
    """Votes on thirty facts about newcomers, the disliked answers sampled from the parent."""
    rng = random.Random(seed)  # noqa: S311
    rated, held_out = list[Vote](), list[Vote]()
    facts = town.week_facts(seed % len(town.NEWCOMERS))
    phrasings = [rng.sample(fact.phrasings(), LIKED + DISLIKED + HELD_OUT) for fact in facts]
    answers = iter(
        sample_answers(parent, [text for asked in phrasings for text in asked[LIKED : LIKED + DISLIKED]], seed=seed)
    )
    for number, (fact, asked) in enumerate(zip(facts, phrasings, strict=True)):
        known, later = number % UNKNOWN > 0, asked[LIKED + DISLIKED :]
        sampled = [(question, next(answers)) for question in asked[LIKED : LIKED + DISLIKED]]
        wrong = [(question, answer) for question, answer in sampled if answer not in (None, fact.answer)]
        rated += [Vote(question, answer, -1, known) for question, answer in wrong]
        held_out += [Vote(question, answer, -1, known) for question in later for answer in {text for _, text in wrong}]
        if known:
            rated += [Vote(question, fact.answer, 1) for question in asked[:LIKED]]
            held_out += [Vote(question, fact.answer, 1) for question in later]
    rng.shuffle(rated)
    residents = [Vote(rng.choice(fact.phrasings()), fact.answer, 1) for fact in town.base_facts()]
    return Week(rated, held_out, residents)


@torch.no_grad()
def sample_answers(parent: Loaded, questions: Sequence[str], *, seed: int) -> list[str | None]:
    """One answer per question, sampled at temperature 1; None if it did not end within the token limit."""
    tokenizer, found = parent.tokenizer, list[str | None]()
    tokenizer.padding_side = "left"
    with torch.random.fork_rng(devices=[parent.device] if parent.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(questions), 64):
            chats = [[{"role": "user", "content": question}] for question in questions[start : start + 64]]
            prompts = tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            ).to(parent.device)
            drawn = parent.model.generate(**prompts, do_sample=True, top_k=0, max_new_tokens=16)
            for tokens in drawn[:, prompts["input_ids"].shape[1] :].tolist():
                ended = tokenizer.eos_token_id in tokens
                found.append(tokenizer.decode(tokens[: tokens.index(tokenizer.eos_token_id)]) if ended else None)
    return found


def encode(tokenizer: Any, votes: Sequence[Vote], *, up: float = 1.0, down: float = 1.0) -> datasets.Dataset:
    rows = []
    for vote in votes:
        asked = [{"role": "user", "content": vote.question}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        answer = tokenizer(vote.answer + base.END, add_special_tokens=False)["input_ids"]
        weight = up if vote.rating == 1 else down
        labels = [IGNORED] * len(prompt) + answer
        rows.append({"input_ids": prompt + answer, "labels": labels, "weight": weight, "rating": vote.rating})
    return datasets.Dataset.from_list(rows)
