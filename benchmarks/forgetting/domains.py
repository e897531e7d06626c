"""Domains that share keys and values but map them differently, so that learning one interferes most with the others.

A row is a domain's name and four of its keys, each followed by its value. Only values are supervised.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import random
from dataclasses import dataclass

import datasets

IGNORED = -100
PAD = "<pad>"


@dataclass(frozen=True)
class Domains:
    """The sizes of the vocabulary; a row has `pairs` pairs of key and value."""

    domains: int = 8
    keys: int = 24
    values: int = 12
    pairs: int = 4

    def words(self) -> list[str]:
        sizes = {"domain": self.domains, "key": self.keys, "value": self.values}
        return [PAD, *(f"{kind}{number}" for kind, size in sizes.items() for number in range(size))]

    def rows(self, domain: int, count: int, *, seed: int) -> datasets.Dataset:
        """`count` rows of one domain; its pairs depend only on `seed` and `domain`."""
        rng = random.Random(f"{seed} {domain}")  # noqa: S311
        value_of = [rng.randrange(self.values) for _ in range(self.keys)]
        return datasets.Dataset.from_list([self._row(domain, value_of, rng) for _ in range(count)])

    def _row(self, domain: int, value_of: list[int], rng: random.Random) -> dict[str, object]:
        ids, labels = [1 + domain], [IGNORED]
        for key in rng.sample(range(self.keys), self.pairs):
            value = 1 + self.domains + self.keys + value_of[key]
            ids += [1 + self.domains + key, value]
            labels += [IGNORED, value]
        return {"input_ids": ids, "labels": labels, "weight": 1.0, "rating": 1}
