"""Figures that evaluation measures and the gate judges.

Losses, gains, margins and KL are in nats per token. None means not measured.
"""

import math
from dataclasses import dataclass, field

from learning_engine.records.report import Content, Manners, Report, Sample, Slice
from learning_engine.records.report import Kept as KeptContent

# Name and value of a slice.
Key = tuple[str, str]


@dataclass(frozen=True)
class Learned:
    """Figures on the window's own held-out rows. Losses are over liked rows, which come from `conversations`
    conversations; the gain is over the parent, `margin_growth` is at most the growth of the margin. For `taught`,
    `refused`, `ends` and `sample` see Report. `places_taught` has the places of taught tokens by row of the held-out
    file, `judging` the rows of the sample. `slices` has every value, also those that are only counted."""

    rows: int
    conversations: int
    loss: float | None
    loss_parent: float | None
    loss_base: float | None
    gain_lower_bound: float | None
    margin: float | None = None
    margin_parent: float | None = None
    margin_growth: float | None = None
    disliked_rise: float | None = None
    taught: Content = field(default_factory=Content)
    refused: Content = field(default_factory=Content)
    ends: Content = field(default_factory=Content)
    sample: Sample | None = None
    judging: list[int] = field(default_factory=list)
    places_taught: dict[int, list[int]] = field(default_factory=dict)
    slices: dict[Key, Slice] = field(default_factory=dict)


@dataclass(frozen=True)
class EarlierSlice:
    """One value of a slice in an earlier window: the candidate's loss, its share of what the window taught there, and
    the part that is left of the best improvement on the base."""

    conversations: int
    loss: float | None
    said: float | None
    retained: float | None


@dataclass(frozen=True)
class Kept:
    """Figures on earlier versions' held-out sets, by version: the losses of the candidate, the base and the best
    version, and KL(parent ‖ candidate) over the supervised tokens.

    `content` is about what their windows taught. `missing` names versions whose set is gone, `nothing_learned` those on
    whose set no version beat the base, `superseded` those whose set was contradicted whole. `slices` has the values
    that can be judged.
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    base_scores: dict[str, float | None] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    retained: dict[str, float | None] = field(default_factory=dict)
    drift: dict[str, float | None] = field(default_factory=dict)
    content: dict[str, KeptContent] = field(default_factory=dict)
    nothing_learned: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    slices: dict[str, dict[Key, EarlierSlice]] = field(default_factory=dict)


@dataclass(frozen=True)
class Drift:
    """KL(reference ‖ candidate) over the tokens of the parent's greedy answers to fixed prompts."""

    parent: float | None
    base: float | None


@dataclass(frozen=True)
class Lengths:
    """Mean number of tokens of greedy answers to fixed prompts."""

    candidate: float | None
    parent: float | None

    @property
    def ratio(self) -> float | None:
        """Candidate ÷ parent."""
        return self.candidate / self.parent if self.candidate is not None and self.parent else None


@dataclass(frozen=True)
class Figures:
    """All figures. `users` of the window is None if unknown, `broken_weights` counts the candidate's weights that are
    NaN or infinite, `unservable` says why the server would reject the adapter. Without a parent, the base replaces it.
    `parent` is the parent's report, if it is known.
    """

    learned: Learned
    kept: Kept
    drift: Drift
    lengths: Lengths
    has_parent: bool
    broken_weights: int
    users: int | None
    unservable: str | None = None
    manners: Manners = field(default_factory=Manners)
    parent: Report | None = None

    @property
    def reference(self) -> str:
        return "the parent" if self.has_parent else "the base model"

    def not_finite(self) -> list[str]:
        """Names of the figures that are NaN or infinite."""
        named: dict[str, float | None] = {
            name.replace("_", " "): value
            for name, value in vars(self.learned).items()
            if isinstance(value, int | float)
        }
        named |= {f"drift from the {name}": value for name, value in vars(self.drift).items()}
        named |= {f"loss on {version}": loss for version, loss in self.kept.scores.items()}
        named |= {f"base loss on {version}": loss for version, loss in self.kept.base_scores.items()}
        named |= {f"best loss on {version}": loss for version, loss in self.kept.best.items()}
        named |= {f"drift on {version}": kl for version, kl in self.kept.drift.items()}
        named |= {f"{name} of the base's own answers": getattr(self.manners, name) for name in ("loss", "kl")}
        return [name for name, value in named.items() if value is not None and not math.isfinite(value)]


def finite(value: float | None) -> float | None:
    """`value`, or None if it is NaN or infinite, which JSON cannot represent."""
    return value if value is not None and math.isfinite(value) else None
