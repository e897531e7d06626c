"""Right-padded batches of encoded examples, grouped by length.

Right padding needs no attention mask: under causal attention no token attends to positions on its right, and padded
positions have no label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from learning_engine.learning.replayed import Replayed

IGNORED = -100
# Rows are sorted by length within pools of this many batches, so that an epoch stays shuffled.
POOL = 50


@dataclass(frozen=True)
class Row:
    """One example: token ids, labels (IGNORED where not supervised), the weight of its rating, the rating (1 or −1),
    and the number of supervised tokens."""

    index: int
    input_ids: torch.Tensor
    labels: torch.Tensor
    weight: float
    rating: int
    supervised: int


class Rows(Dataset[Row]):
    """The columns `input_ids`, `labels`, `weight` and `rating` of a datasets.Dataset, stored as flat tensors."""

    def __init__(self, examples: Any) -> None:
        table = examples.select_columns(["input_ids", "labels", "weight", "rating"]).with_format("arrow")[:]
        self._tokens, self._offsets = _flat(table["input_ids"])
        self._labels, _ = _flat(table["labels"])
        self.weights = table["weight"].to_numpy().astype(np.float64)
        self.ratings = table["rating"].to_numpy()
        self.lengths = np.diff(self._offsets)
        # No position predicts a row's first token.
        labelled = (self._labels != IGNORED).numpy()
        labelled[self._offsets[:-1]] = False
        self.supervised = np.diff(np.concatenate(([0], np.cumsum(labelled)))[self._offsets])

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, index: int) -> Row:
        place = slice(self._offsets[index], self._offsets[index + 1])
        return Row(
            int(index),
            self._tokens[place],
            self._labels[place],
            float(self.weights[index]),
            int(self.ratings[index]),
            int(self.supervised[index]),
        )


class LengthGroupedSampler(Sampler[int]):
    """A shuffled epoch whose batches hold rows of similar length. Depends only on seed and epoch.

    `lengths` are those of the window's rows, then of the old rows of `replayed`. An epoch has each row of the window
    once, and its share of the old rows.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, replayed: Replayed | None = None) -> None:
        self._lengths, self._batch_size = lengths, batch_size
        self._seed, self._epoch = seed, 0
        self._own = replayed.own if replayed else len(lengths)
        self._drawn = replayed.per_epoch if replayed else 0
        self._replayed = self._own + replayed.order(seed) if replayed else np.zeros(0, np.int64)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._own + self._drawn

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self._seed, self._epoch])
        replayed = self._replayed[self._epoch * self._drawn :][: self._drawn]
        rows = np.concatenate([np.arange(self._own), replayed])
        order, size = rows[generator.permutation(len(rows))], self._batch_size
        pools = np.split(order, range(size * POOL, len(order), size * POOL))
        order = np.concatenate([pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools])
        whole = len(order) // size * size
        batches = generator.permutation(order[:whole].reshape(-1, size))
        # The short batch comes last, because the loader cuts the epoch every `batch_size` rows.
        return iter(np.concatenate([batches.reshape(-1), order[whole:]]).tolist())


class MicroBatchSampler(BatchSampler):
    """The batches of `rows`, each split into `parts` consecutive micro-batches of nearly equal size.

    The rows of an optimizer step stay the same, even if fewer of them fit into memory at once.
    """

    def __init__(self, rows: LengthGroupedSampler, *, batch_size: int, parts: int) -> None:
        super().__init__(rows, batch_size, drop_last=False)
        self._rows, self._parts = len(rows), parts

    def __len__(self) -> int:
        whole, rest = divmod(self._rows, self.batch_size)
        return whole * min(self._parts, self.batch_size) + min(self._parts, rest)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield from (part.tolist() for part in np.array_split(batch, min(self._parts, len(batch))))


def longest_first(lengths: np.ndarray, chosen: np.ndarray, *, batch_size: int) -> Iterator[list[int]]:
    """The rows `chosen` in batches, longest first, so that running out of memory shows at the first batch."""
    order = chosen[np.argsort(-lengths[chosen], kind="stable")]
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size].tolist()


def collate(rows: Sequence[Row]) -> dict[str, Any]:
    """A batch: the tensors `input_ids` and `labels` (n, t), `weight`, `rating` and `index` (n,), and the plain numbers
    `tokens`, `supervised` and `supervised_weight` = Σ_n w_n T_n."""
    return {
        "input_ids": _pad([row.input_ids for row in rows], 0),
        "labels": _pad([row.labels for row in rows], IGNORED),
        "weight": torch.tensor([row.weight for row in rows]),
        "rating": torch.tensor([row.rating for row in rows]),
        "index": torch.tensor([row.index for row in rows]),
        "tokens": sum(len(row.input_ids) for row in rows),
        "supervised": sum(row.supervised for row in rows),
        "supervised_weight": sum(row.weight * row.supervised for row in rows),
    }


def _pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def _flat(column: Any) -> tuple[torch.Tensor, np.ndarray]:
    """A column of lists as one flat tensor, and the offset of each row in it (rows + 1)."""
    none = [np.zeros(0, np.int64)]
    lengths = np.concatenate(none + [chunk.value_lengths().to_numpy().astype(np.int64) for chunk in column.chunks])
    flat = np.concatenate(none + [chunk.flatten().to_numpy().astype(np.int64) for chunk in column.chunks])
    return torch.from_numpy(flat), np.concatenate(([0], np.cumsum(lengths)))
