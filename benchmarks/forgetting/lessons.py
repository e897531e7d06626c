"""Facts as token sequences: who has what (an adjective and a noun), asked in many phrasings.

A row is a question with filler words before it, and the two words of the answer. Only the answer is supervised.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import random
from collections.abc import Sequence
from dataclasses import dataclass

import datasets

IGNORED = -100
PAD = "<pad>"


@dataclass(frozen=True)
class Fact:
    """A name and what it has: an adjective and a noun of the vocabulary."""

    name: str
    answer: tuple[str, str]


@dataclass(frozen=True)
class Language:
    """The number of words in each class, and the phrasings of a question."""

    names: int = 220
    things: int = 12
    phrasings: int = 24
    openings: int = 8

    def words(self) -> list[str]:
        sizes = {
            "name": self.names,
            "opening": self.openings,
            "verb": 6,
            "closing": 4,
            "adjective": self.things,
            "noun": self.things,
        }
        return [PAD, *(f"{kind}{number}" for kind, size in sizes.items() for number in range(size))]

    def question(self, fact: Fact, phrasing: int) -> list[str]:
        """A question in one of `phrasings` forms: opening words, verb before or after the name, a closing word."""
        rng = random.Random(phrasing)  # noqa: S311
        opening = [f"opening{rng.randrange(self.openings)}" for _ in range(rng.randint(1, 3))]
        verb, closing = f"verb{phrasing % 6}", f"closing{rng.randrange(4)}"
        middle = [verb, fact.name] if phrasing % 2 else [fact.name, verb]
        return [*opening, *middle, closing]


def facts(language: Language, sizes: Sequence[int], *, seed: int) -> list[list[Fact]]:
    """Groups of facts with the given `sizes`; no name occurs twice."""
    rng = random.Random(seed)  # noqa: S311
    names = [f"name{number}" for number in range(language.names)]
    rng.shuffle(names)
    unused = iter(names)

    def answer() -> tuple[str, str]:
        return f"adjective{rng.randrange(language.things)}", f"noun{rng.randrange(language.things)}"

    return [[Fact(next(unused), answer()) for _ in range(size)] for size in sizes]


def rows(
    language: Language, known: Sequence[Fact], phrasings: Sequence[int], *, limit: int | None = None, seed: int = 0
) -> datasets.Dataset:
    """Every fact in every phrasing, or `limit` of these rows, with the columns that the trainer expects."""
    number = {word: place for place, word in enumerate(language.words())}
    every = [(fact, phrasing) for fact in known for phrasing in phrasings]
    rng = random.Random(seed)  # noqa: S311
    rng.shuffle(every)
    return datasets.Dataset.from_list(
        [
            _row([number[word] for word in language.question(fact, phrasing)], [number[word] for word in fact.answer])
            for fact, phrasing in every[:limit]
        ]
    )


def _row(prompt: list[int], answer: list[int]) -> dict[str, object]:
    return {
        "input_ids": [*prompt, *answer],
        "labels": [*[IGNORED] * len(prompt), *answer],
        "weight": 1.0,
        "rating": 1,
    }
