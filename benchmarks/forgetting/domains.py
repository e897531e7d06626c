"""Domains that share their keys and their values, and differ in which key has which value: what interferes most.

A row is a domain's name and eight of its keys, each followed by its value, which alone is supervised. A value is worded
in one of several ways, by chance, and any counts as right.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import random
from dataclasses import dataclass

import datasets
import torch

IGNORED = -100
PAD = "<pad>"


@dataclass(frozen=True)
class Domains:
    """Sizes of the vocabulary; `pairs` of key and value make a row."""

    domains: int = 8
    keys: int = 24
    values: int = 12
    wordings: int = 3
    pairs: int = 8

    def words(self) -> list[str]:
        plain = [f"domain{number}" for number in range(self.domains)] + [f"key{number}" for number in range(self.keys)]
        return [PAD, *plain, *(f"value{value}.{way}" for value in range(self.values) for way in range(self.wordings))]

    def meanings(self) -> torch.Tensor:
        """(vocabulary,): the same number for words that mean the same."""
        words = [word.partition(".")[0] for word in self.words()]
        return torch.tensor([words.index(word) for word in words])

    def rows(self, domain: int, count: int, *, seed: int) -> datasets.Dataset:
        """`count` rows of one domain; the pairs depend on `seed` and `domain` alone."""
        chance = random.Random(f"{seed} {domain}")  # noqa: S311
        told = [chance.randrange(self.values) for _ in range(self.keys)]
        return datasets.Dataset.from_list([self._row(domain, told, chance) for _ in range(count)])

    def _row(self, domain: int, told: list[int], chance: random.Random) -> dict[str, object]:
        ids, labels = [1 + domain], [IGNORED]
        for key in chance.sample(range(self.keys), self.pairs):
            first = 1 + self.domains + self.keys
            value = first + told[key] * self.wordings + chance.randrange(self.wordings)
            ids += [1 + self.domains + key, value]
            labels += [IGNORED, value]
        return {"input_ids": ids, "labels": labels, "weight": 1.0, "rating": 1}
