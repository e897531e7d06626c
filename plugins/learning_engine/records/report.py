"""What evaluation found of a candidate, and how the gate's rules judged it."""

from dataclasses import dataclass, field
from typing import Literal

from learning_engine.records.base import Record


@dataclass(frozen=True)
class Rule(Record):
    """One rule of the gate. `figure` is None where it could not be measured, and then `why` says so."""

    name: str
    figure: float | None
    comparison: Literal[">=", "<="]
    bound: float
    passed: bool
    why: str


@dataclass(frozen=True)
class Probes(Record):
    """Where the prompts lie that prove this version on a server, and how clearly they tell it from its parent and base.

    The prompts may hold users' words, so they are an object of their own and never part of a record.
    `smallest_margin` is in nats.
    """

    uri: str
    sha256: str
    count: int
    smallest_margin: float


@dataclass(frozen=True)
class Summary(Record):
    """Of a chain, in nats per supervised token: the mean loss on each window right after it was `learned`; how much of
    the lowest loss ever reached on earlier windows is `forgotten` (≥ 0); by how much later windows improved earlier
    ones (`backward_transfer`, negative where they cost them). None where there is nothing to take the mean of.
    """

    learned: float | None = None
    forgotten: float | None = None
    backward_transfer: float | None = None


@dataclass(frozen=True)
class Report(Record):
    """What evaluation found. Losses in nats per supervised token on held-out feedback; drift is KL in nats per token.

    `scores[v]` is the candidate's loss on the held-out set of version v (its row of the matrix R), `matrix` has the
    rows of its ancestors; `retained[v]` is the share kept of the best improvement over the base that any version
    reached there, `drift_windows[v]` KL(parent ‖ candidate) over the supervised tokens there. `length_ratio` is that of
    greedy answers on fixed prompts, candidate to parent (without one, to the base).
    """

    run_key: str
    heldout_rows: int
    loss: float | None
    loss_parent: float | None
    loss_base: float | None
    gain_lower_bound: float | None
    scores: dict[str, float]
    best: dict[str, float]
    base_scores: dict[str, float]
    retained: dict[str, float]
    drift_parent: float | None
    drift_base: float | None
    margin: float | None
    margin_parent: float | None
    rules: list[Rule]
    accepted: bool
    probes: Probes | None
    notes: list[str] = field(default_factory=list)
    heldout_conversations: int | None = None
    drift_windows: dict[str, float] = field(default_factory=dict)
    length_ratio: float | None = None
    matrix: dict[str, dict[str, float]] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)
