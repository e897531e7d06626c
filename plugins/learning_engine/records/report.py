"""The evaluation report on a candidate, and the verdict of each gate rule."""

from dataclasses import dataclass, field
from typing import Literal

from learning_engine.records.base import Record


@dataclass(frozen=True)
class Rule(Record):
    """One rule of the gate. `figure` is None if it could not be measured; `why` then gives the reason. `vouched`: the
    bound is the figure of a parent that a person accepted beyond the configured one."""

    name: str
    figure: float | None
    comparison: Literal[">=", "<="]
    bound: float
    passed: bool
    why: str
    vouched: bool = False


@dataclass(frozen=True)
class Probes(Record):
    """The location of a version's probes, and how clearly they distinguish it from its parent and base.

    The prompts may contain user text, so they are a separate object and never part of a record. `smallest_margin` is in
    nats.
    """

    uri: str
    sha256: str
    count: int
    smallest_margin: float


@dataclass(frozen=True)
class Summary(Record):
    """Summary of a chain, in nats per supervised token; each figure is None if there is nothing to average.

    `learned`: the mean loss on each window right after training on it. `forgotten` (≥ 0): the mean rise above the
    lowest loss ever reached on earlier windows. `backward_transfer`: how much later windows improved earlier ones,
    negative if they made them worse.
    """

    learned: float | None = None
    forgotten: float | None = None
    backward_transfer: float | None = None


@dataclass(frozen=True)
class Content(Record):
    """Of `places` phrases of content in held-out answers, the share that a model says: each of its tokens is the first
    choice under teacher forcing; None without a phrase. They come from so many `conversations`."""

    places: int = 0
    conversations: int = 0
    candidate: float | None = None
    parent: float | None = None
    base: float | None = None


@dataclass(frozen=True)
class Sample(Record):
    """The rows that judge later versions, `rows` of the window's `of` liked held-out ones: the candidate's loss there,
    and its share of what the window taught there."""

    rows: int
    of: int
    loss: float | None = None
    taught: float | None = None


@dataclass(frozen=True)
class Kept(Record):
    """What is left of the content that an earlier window taught: the candidate's and the base's share of its places,
    the best share that any version reached, and `retained`, the part that is left of the best improvement on the base
    (None if there is too little to judge)."""

    conversations: int
    candidate: float | None
    base: float | None
    best: float | None
    retained: float | None = None


@dataclass(frozen=True)
class Manners(Record):
    """What is left of the base model in its own conversations, which nobody trained on; None without an anchor.

    `left` is the share of their tokens at which candidate and base have the same first choice, 1 for the base itself;
    losses and KL(base ‖ candidate) are in nats per token.
    """

    conversations: int = 0
    left: float | None = None
    loss: float | None = None
    loss_base: float | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Slice(Record):
    """How a version does on the held-out rows with one `value` of a slice, such as language=de; "" if they have none.

    Figures on this window are None if its liked answers with this value come from too few `conversations`. Losses and
    margins are as in Report; `rise_lower_bound` is how far the loss rose above the parent's, at least, with 95 %
    confidence. `taught` has no shares if it comes from too few conversations. `scores[v]` is the loss on the rows of
    version v's window with this value, `said[v]` the share that it says of what that window taught there.
    `retained` is the mean over the `windows` earlier windows where what is left can be judged. `fell`: the loss rose,
    or too little is retained, see evaluation.slices. Values come from users.
    """

    name: str
    value: str
    conversations: int
    loss: float | None = None
    loss_parent: float | None = None
    loss_base: float | None = None
    rise_lower_bound: float | None = None
    margin: float | None = None
    margin_parent: float | None = None
    taught: Content = field(default_factory=Content)
    scores: dict[str, float] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)
    retained: float | None = None
    windows: int = 0
    fell: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}={self.value or '(none)'}"


@dataclass(frozen=True)
class Report(Record):
    """The evaluation results: losses in nats per supervised token on held-out feedback, drift as KL in nats per token.

    `scores[v]` is the candidate's loss on the held-out set of version v (its row of the matrix R); `matrix` has the
    rows of its ancestors. `retained[v]` is the share that is left of the best improvement over the base that any
    version reached there. `drift_windows[v]` is KL(parent ‖ candidate) over the supervised tokens there.
    `length_ratio` compares the mean length of greedy answers to the fixed prompts, candidate to parent; None without a
    parent. `taught` covers the phrases of liked held-out answers that the parent would not say and that the answers on
    the same subject say, on which the candidate was trained. `refused` covers those of disliked ones that disliked
    answers on the same subject say and liked ones do not. `ends` covers the ends of liked answers. `kept[v]` is about
    what version v's window taught; where its `retained` is not None, the gate judges by it and not by the losses in
    `retained`. `sample` has the rows that judge later versions, None in versions that did not choose them;
    `superseded[v]` are rows of version v's held-out set that this window contradicts and that judge nothing any more.
    `disliked_rise` is how much likelier disliked held-out answers are than under the parent, in nats per token;
    `margin_growth` is, with 95 % confidence, at most the growth of the margin over the parent's.
    `manners` compares the candidate with the base on the anchor's held-out conversations. `slices` has the figures by
    value of each slice in `feedback.slices`; no rule judges by them.
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
    taught: Content = field(default_factory=Content)
    refused: Content = field(default_factory=Content)
    kept: dict[str, Kept] = field(default_factory=dict)
    disliked_rise: float | None = None
    manners: Manners = field(default_factory=Manners)
    slices: list[Slice] = field(default_factory=list)
    margin_growth: float | None = None
    ends: Content = field(default_factory=Content)
    sample: Sample | None = None
    superseded: dict[str, list[int]] = field(default_factory=dict)

    def shares_retained(self) -> dict[str, float]:
        """The share that is left of each earlier window: of what it taught where that can be judged, by loss
        otherwise."""
        taught = {version: kept.retained for version, kept in self.kept.items() if kept.retained is not None}
        return {**self.retained, **taught}
