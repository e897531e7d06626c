"""Figures by slice: how a candidate does on the held-out rows with one value of a slice, such as language=de.

A value is judged where at least `gate.min_heldout` conversations with a liked answer have it. It fell if
  - with 95 % confidence its loss rose above the parent's by more than `gate.epsilon`, by the same bootstrap over
    conversations by which the gate judges the whole; or
  - less than `gate.min_retained` is left of what earlier windows improved, in the mean over the windows where it can be
    judged, each as the gate judges a whole window.
Of simulated values that did not change, 5 % (at 100 conversations) to 10 % (at 8) seem to rise. Slices inform; no rule
rejects by them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learning_engine.config import sections
from learning_engine.evaluation import metrics, retention, superseded, taught
from learning_engine.evaluation.figures import EarlierSlice, Key, finite
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.taught import Mask, Places
from learning_engine.records.contracts import AdapterVersion
from learning_engine.records.report import Content, Slice

# By name of the slice, the value of each row of a held-out file.
Values = Mapping[str, Sequence[str]]

# Values of one slice in a report, those with the most conversations.
MOST = 20


class Best(NamedTuple):
    """The lowest loss and the highest share of taught tokens that any version reached."""

    loss: float | None = None
    said: float | None = None


@dataclass(frozen=True)
class Known:
    """The slices of the held-out rows of this window and of earlier ones by version, and the best that any ancestor
    reached there, by version and value."""

    window: Values = field(default_factory=dict)
    earlier: Mapping[str, Values] = field(default_factory=dict)
    best: Mapping[str, Mapping[Key, Best]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Rows of a held-out file and their losses. `rows` are their numbers in the file; `conversation` and `liked` are
    (rows,), `taught` marks the taught places and is shaped as `RowLosses.first`."""

    rows: list[int]
    conversation: npt.NDArray[Any]
    liked: Mask
    taught: Mask
    candidate: RowLosses
    parent: RowLosses
    base: RowLosses

    def __getitem__(self, inside: Mask) -> "Measured":
        return Measured(
            rows=np.array(self.rows)[inside].tolist(),
            conversation=self.conversation[inside],
            liked=self.liked[inside],
            taught=self.taught[np.repeat(inside, self.candidate.tokens)],
            candidate=self.candidate[inside],
            parent=self.parent[inside],
            base=self.base[inside],
        )


def of_window(
    values: Values, measured: Measured, content: Places, *, least: int, draws: int, seed: int
) -> dict[Key, Slice]:
    """The figures of every value in this window; only counted if fewer than `least` conversations have it."""
    found = {}
    for key, inside in _groups(values, measured.rows):
        part = measured[inside]
        liked, conversations = part.liked, len(np.unique(part.conversation[part.liked]))
        found[key] = Slice(*key, conversations)
        if conversations < least:
            continue
        candidate, parent, base = part.candidate, part.parent, part.base
        shares = taught.content(content, part.rows, part.taught, candidate=candidate, parent=parent, base=base)
        rise = metrics.paired_bootstrap(
            parent[liked], candidate[liked], part.conversation[liked], draws=draws, seed=seed
        )
        found[key] = replace(
            found[key],
            loss=finite(candidate[liked].mean()),
            loss_parent=finite(parent[liked].mean()),
            loss_base=finite(base[liked].mean()),
            rise_lower_bound=finite(rise),
            margin=finite(metrics.margin(candidate, liked)),
            margin_parent=finite(metrics.margin(parent, liked)),
            taught=shares if shares.conversations >= least else Content(shares.places, shares.conversations),
        )
    return found


def of_earlier(
    values: Values,
    rows: Sequence[int],
    places: Places,
    *,
    candidate: RowLosses,
    base: RowLosses,
    best: Mapping[Key, Best],
    least: int,
) -> dict[Key, EarlierSlice]:
    """The figures of the liked `rows` of an earlier window, for each value in at least `least` conversations."""
    found = {}
    for key, inside in _groups(values, rows):
        own = np.array(rows)[inside].tolist()
        conversations = len({places.conversations[row] for row in own})
        if conversations < least:
            continue
        now, before, reached = candidate[inside], base[inside], best.get(key, Best())
        kept = taught.kept(places, own, candidate=now, base=before, best=reached.said, min_conversations=least)
        retained, loss = kept.retained, finite(now.mean())
        if retained is None and reached.loss is not None:
            retained = retention.shares({"": loss}, {"": before.mean()}, {"": reached.loss}).get("")
        found[key] = EarlierSlice(conversations, loss, kept.candidate, retained)
    return found


def best(ancestors: Iterable[AdapterVersion]) -> dict[str, dict[Key, Best]]:
    """The best that any of the `ancestors` reached on each value in each window, by version."""
    found: dict[str, dict[Key, Best]] = {}
    for version, changed in superseded.comparable(ancestors):
        # A version's own figures are on more rows than later ones, if some of them were chosen to judge these.
        chosen = version.report.sample is not None and version.report.sample.rows < version.report.sample.of
        for part in version.report.slices:
            losses = {**part.scores, **({} if chosen else {version.version: part.loss})}
            shares = {**part.said, **({} if chosen else {version.version: part.taught.candidate})}
            for window in (losses.keys() | shares.keys()) - changed:
                reached = found.setdefault(window, {})
                before = reached.get((part.name, part.value), Best())
                reached[part.name, part.value] = Best(
                    min(_known(before.loss, losses.get(window)), default=None),
                    max(_known(before.said, shares.get(window)), default=None),
                )
    return found


def judge(
    names: Iterable[str],
    window: Mapping[Key, Slice],
    earlier: Mapping[str, Mapping[Key, EarlierSlice]],
    gate: sections.Gate,
) -> tuple[list[Slice], list[str]]:
    """The slices of the report, and notes on the values of each of the `names` that are left out."""
    keys = [*window, *(key for of_window in earlier.values() for key in of_window)]
    found: list[Slice] = []
    notes: list[str] = []
    for name in names:
        values = {value for of_name, value in keys if of_name == name}
        parts = [_with_earlier(window.get((name, value), Slice(name, value, 0)), earlier, gate) for value in values]
        judged = [part for part in parts if part.conversations >= gate.min_heldout or part.scores]
        judged = sorted(judged, key=lambda part: (-part.conversations, -len(part.scores), part.value))[:MOST]
        rest = [part.conversations for part in parts if part.conversations and part not in judged]
        if values == {""}:
            notes.append(f"No held-out row has a value of {name}: check feedback.slices.")
        if rest:
            notes.append(
                f"Values of {name} that are not judged: {len(rest)}, with {sum(rest)} conversations; they have "
                f"fewer than {gate.min_heldout} each, or {MOST} others have more."
            )
        found += judged
    return found, notes


def fallen(slices: Sequence[Slice], gate: sections.Gate, *, improved: bool) -> list[str]:
    """A note on each slice that fell; `improved` tells whether the loss on the whole window did."""
    return [f"{part.label} fell: {'; '.join(_reasons(part, gate, improved))}." for part in slices if part.fell]


def _reasons(part: Slice, gate: sections.Gate, improved: bool) -> Iterator[str]:
    if _rose(part, gate):
        whole = ", while the whole improved" if improved else ""
        yield f"loss {part.loss_parent:.3f} → {part.loss:.3f} on {part.conversations} conversations{whole}"
    if _forgotten(part, gate):
        windows = "1 earlier window" if part.windows == 1 else f"{part.windows} earlier windows"
        yield f"{part.retained:.0%} is left of what {windows} improved, gate.min_retained is {gate.min_retained:.0%}"


def _with_earlier(part: Slice, earlier: Mapping[str, Mapping[Key, EarlierSlice]], gate: sections.Gate) -> Slice:
    windows = {version: of[part.name, part.value] for version, of in earlier.items() if (part.name, part.value) in of}
    retained = _known(*(window.retained for window in windows.values()))
    part = replace(
        part,
        scores={version: window.loss for version, window in windows.items() if window.loss is not None},
        said={version: window.said for version, window in windows.items() if window.said is not None},
        retained=fmean(retained) if retained else None,
        windows=len(retained),
    )
    return replace(part, fell=_rose(part, gate) or _forgotten(part, gate))


def _rose(part: Slice, gate: sections.Gate) -> bool:
    return part.rise_lower_bound is not None and part.rise_lower_bound > gate.epsilon


def _forgotten(part: Slice, gate: sections.Gate) -> bool:
    return part.retained is not None and part.retained < gate.min_retained


def _groups(values: Values, rows: Sequence[int]) -> Iterator[tuple[Key, Mask]]:
    """Every value of every slice with the `rows` of the file that have it, (rows,)."""
    for name, of_file in values.items():
        own = np.array([of_file[row] for row in rows], dtype=object)
        for value in sorted(set(own)):
            yield (name, value), np.asarray(own == value, dtype=bool)


def _known(*figures: float | None) -> list[float]:
    return [figure for figure in figures if figure is not None]
