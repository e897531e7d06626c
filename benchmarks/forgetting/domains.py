"""Domains that share their keys and their values, and differ in which key has which value: what interferes most.

A row is a domain's name and four of its keys, each followed by its value, which alone is supervised.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import random
from dataclasses import dataclass

import datasets

IGNORED = -100
PAD = "<pad>"


@dataclass(frozen=True)
class Domains:
    """Sizes of the vocabulary; `pairs` of key and value make a row."""

    domains: int = 8
    keys: int = 24
    values: int = 12
    pairs: int = 4

    def words(self) -> list[str]:
        sizes = {"domain": self.domains, "key": self.keys, "value": self.values}
        return [PAD, *(f"{kind}{number}" for kind, size in sizes.items() for number in range(size))]

    def rows(self, domain: int, count: int, *, seed: int) -> datasets.Dataset:
        """`count` rows of one domain; the pairs depend on `seed` and `domain` alone."""
        chance = random.Random(f"{seed} {domain}")  # noqa: S311
        told = [chance.randrange(self.values) for _ in range(self.keys)]
        return datasets.Dataset.from_list([self._row(domain, told, chance) for _ in range(count)])

    def _row(self, domain: int, told: list[int], chance: random.Random) -> dict[str, object]:
        ids, labels = [1 + domain], [IGNORED]
        for key in chance.sample(range(self.keys), self.pairs):
            value = 1 + self.domains + self.keys + told[key]
            ids += [1 + self.domains + key, value]
            labels += [IGNORED, value]
        return {"input_ids": ids, "labels": labels, "weight": 1.0, "rating": 1}
