"""Shares of content that a model says: of the phrases of content in held-out answers, how many are its first choice?

A phrase is a run of places of content next to each other. A model says it if each of its tokens is the first choice
under teacher forcing: most tokens of a name follow from its first ones, so single tokens would count names that the
model can spell and not those that it knows.

Retained content of an earlier window: (share − base's share) / (best share of any version − base's share).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from learning_engine.evaluation import superseded
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.records.contracts import AdapterVersion
from learning_engine.records.report import Content, Kept

Mask = npt.NDArray[np.bool_]

# If the best share is above the base's by less than this, what is retained of it would be noise.
NOTHING_LEARNED = 0.1


@dataclass(frozen=True)
class Places:
    """Places among the supervised tokens of a held-out file's rows, counted from 0: `places` by row of the file;
    `conversations` names each row's conversation, `judging` are the rows by which later versions are judged, if they
    were chosen."""

    conversations: Sequence[str] = ()
    places: Mapping[int, Sequence[int]] = field(default_factory=dict)
    judging: Sequence[int] | None = None

    def mask(self, rows: Sequence[int], losses: RowLosses) -> Mask:
        """Which tokens of the given rows of the file are such places, shaped as `losses.first`."""
        parts = [np.zeros(count, dtype=bool) for count in losses.tokens]
        for row, part in zip(rows, parts, strict=True):
            # Another tokenizer may have made fewer tokens of the same answer.
            part[[place for place in self.places.get(row, ()) if place < len(part)]] = True
        return np.concatenate([np.zeros(0, dtype=bool), *parts])

    def conversations_with(self, rows: Sequence[int], losses: RowLosses, mask: Mask) -> int:
        """How many conversations have a place in `mask`."""
        return len({self.conversations[row] for row, found in zip(rows, by_row(losses, mask), strict=True) if found})


def by_row(losses: RowLosses, mask: Mask) -> list[list[int]]:
    """The places in `mask` of each row, counted from its first supervised token."""
    ends = np.cumsum(losses.tokens)
    return [np.flatnonzero(mask[end - count : end]).tolist() for end, count in zip(ends, losses.tokens, strict=True)]


def share(losses: RowLosses, mask: Mask) -> float | None:
    """The share of the phrases in `mask` that the model says; None without a phrase."""
    phrases = _Phrases(losses, mask)
    return float(phrases.said(losses).mean()) if len(phrases.starts) else None


def unsaid(losses: RowLosses, mask: Mask) -> Mask:
    """The part of `mask` whose phrases the model does not say."""
    phrases, left = _Phrases(losses, mask), np.zeros_like(mask)
    lengths = np.diff(phrases.starts, append=len(phrases.positions))
    left[phrases.positions[np.repeat(~phrases.said(losses), lengths)]] = True
    return left


class _Phrases:
    """`positions` (places in the mask,) of the marked tokens, and where among them each phrase starts (phrases,)."""

    def __init__(self, losses: RowLosses, mask: Mask) -> None:
        self.positions = np.flatnonzero(mask)
        rows = np.repeat(np.arange(len(losses.tokens)), losses.tokens)[self.positions]
        apart = (np.diff(self.positions) > 1) | (np.diff(rows) > 0)
        self.starts = np.flatnonzero(np.concatenate([[True], apart])) if len(self.positions) else self.positions

    def said(self, losses: RowLosses) -> Mask:
        """Whether the model says each phrase, (phrases,)."""
        if not len(self.starts):
            return np.zeros(0, dtype=bool)
        said: Mask = np.logical_and.reduceat(losses.first[self.positions], self.starts)
        return said


def content(
    places: Places, rows: Sequence[int], mask: Mask, *, candidate: RowLosses, parent: RowLosses, base: RowLosses
) -> Content:
    """The shares of all three models of the phrases in `mask` in the given rows of the file."""
    return Content(
        places=len(_Phrases(candidate, mask).starts),
        conversations=places.conversations_with(rows, candidate, mask),
        candidate=share(candidate, mask),
        parent=share(parent, mask),
        base=share(base, mask),
    )


def kept(
    places: Places,
    rows: Sequence[int],
    *,
    candidate: RowLosses,
    base: RowLosses,
    best: float | None,
    min_conversations: int,
) -> Kept:
    """What is left of the taught `places` of an earlier window; `best` is the best share of any ancestor, if known."""
    mask = places.mask(rows, candidate)
    now, before, found = share(candidate, mask), share(base, mask), places.conversations_with(rows, candidate, mask)
    retained = None
    if (
        now is not None
        and before is not None
        and best is not None
        and found >= min_conversations
        and best - before >= NOTHING_LEARNED
    ):
        retained = (now - before) / (best - before)
    return Kept(conversations=found, candidate=now, base=before, best=best, retained=retained)


def best(ancestors: Iterable[AdapterVersion]) -> dict[str, float]:
    """The best share that any of the `ancestors` reached of what each window taught, on the rows that judge it."""
    return superseded.best(ancestors, _reached, max)


def _reached(version: AdapterVersion) -> Iterator[tuple[str, float | None]]:
    report = version.report
    for window, kept in report.kept.items():
        yield window, kept.candidate
        yield window, kept.best
    if report.sample:
        yield version.version, report.sample.taught
