"""Padded batches of token rows, grouped by length."""

from collections.abc import Iterator, Sequence

import torch

# Bounds the logits of a batch: 2048 tokens with a vocabulary of 128k take 1 GB in float32.
MAX_TOKENS = 2048


def by_length(rows: Sequence[Sequence[int]], *, batch_size: int) -> Iterator[list[int]]:
    """Indices of `rows`, longest first, in batches of at most `batch_size` rows and about MAX_TOKENS padded tokens."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    while order:
        longest = max(len(rows[order[0]]), 1)
        size = max(1, min(batch_size, MAX_TOKENS // longest))
        yield order[:size]
        order = order[size:]


def pad(
    rows: Sequence[Sequence[int]], *, value: int, device: torch.device, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one (rows, longest) int64 tensor padded with `value`, and a mask that is 1 at the rows' own tokens."""
    longest = max(len(row) for row in rows)
    padded = torch.full((len(rows), longest), value, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        padded[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = 1
    return padded.to(device), mask.to(device)
