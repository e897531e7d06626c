"""What evaluation measures and the gate judges. Losses, gains, margins and KL in nats per token; None: not measured."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Learned:
    """On the window's own held-out rows, the losses over its `liked` ones; the gain is over the parent."""

    rows: int
    liked: int
    loss: float | None
    loss_parent: float | None
    loss_base: float | None
    gain_lower_bound: float | None
    margin: float | None = None
    margin_parent: float | None = None


@dataclass(frozen=True)
class Kept:
    """On earlier versions' held-out sets, by version: the losses of the candidate, the base and the best version.

    `missing` names those whose set is gone, `nothing_learned` those on which no version was better than the base.
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    base_scores: dict[str, float | None] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    retained: dict[str, float | None] = field(default_factory=dict)
    nothing_learned: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Drift:
    """KL(reference ‖ candidate) on fixed prompts."""

    parent: float | None
    base: float | None


@dataclass(frozen=True)
class Figures:
    """`unservable` says why the server would refuse the adapter; without a parent the base stands in its place."""

    learned: Learned
    kept: Kept
    drift: Drift
    has_parent: bool
    unservable: str | None = None

    @property
    def reference(self) -> str:
        return "the parent" if self.has_parent else "the base model"

    def not_finite(self) -> list[str]:
        """Names of the figures that are NaN or infinite."""
        named = {name.replace("_", " "): value for name, value in vars(self.learned).items()}
        named |= {f"drift from the {name}": value for name, value in vars(self.drift).items()}
        named |= {f"loss on {version}": loss for version, loss in self.kept.scores.items()}
        named |= {f"base loss on {version}": loss for version, loss in self.kept.base_scores.items()}
        named |= {f"best loss on {version}": loss for version, loss in self.kept.best.items()}
        return [name for name, value in named.items() if value is not None and not math.isfinite(value)]


def finite(value: float | None) -> float | None:
    """`value`, or None where it is NaN or infinite, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
