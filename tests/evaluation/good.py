"""A candidate that passes every rule of the gate, and one figure changed at a time."""

from dataclasses import replace

from learning_engine.config import sections
from learning_engine.evaluation.figures import Drift, Figures, Kept, Learned, Lengths
from learning_engine.evaluation.gate import judge
from learning_engine.records.report import Content, Manners, Rule
from learning_engine.records.report import Kept as KeptContent

NAN, INFINITE = float("nan"), float("inf")
GATE = sections.Gate(
    epsilon=0.05,
    min_retained=0.2,
    max_kl_parent=2.0,
    max_kl_base=3.0,
    max_margin_loss=0.5,
    min_length_ratio=0.5,
    max_length_ratio=2.0,
    min_heldout=8,
    min_users=3,
)
LEARNED = Learned(
    rows=20,
    conversations=12,
    loss=1.0,
    loss_parent=1.5,
    loss_base=2.0,
    gain_lower_bound=0.3,
    margin=1.0,
    margin_parent=0.5,
    margin_growth=0.8,
    disliked_rise=0.2,
    taught=Content(places=40, conversations=10, candidate=0.8, parent=0.0, base=0.1),
    refused=Content(places=20, conversations=9, candidate=0.1, parent=0.1, base=0.0),
    ends=Content(places=20, conversations=12, candidate=0.9, parent=0.8, base=0.6),
)
KEPT = Kept(
    scores={"v1.0": 1.4, "v1.1": 1.2},
    base_scores={"v1.0": 2.0, "v1.1": 2.0},
    best={"v1.0": 1.0, "v1.1": 1.0},
    retained={"v1.0": 0.6, "v1.1": 0.8},
    drift={"v1.0": 0.1, "v1.1": 0.2},
)
WINDOW = KeptContent(conversations=8, candidate=0.7, base=0.1, best=0.8, retained=0.86)
GOOD = Figures(
    learned=LEARNED,
    kept=KEPT,
    drift=Drift(parent=0.5, base=1.0),
    lengths=Lengths(candidate=11.0, parent=10.0),
    has_parent=True,
    broken_weights=0,
    users=5,
    manners=Manners(conversations=20, left=0.95, loss=0.7, loss_base=0.65, kl=0.05),
)


def learned(**changes: float | None) -> Figures:
    return replace(GOOD, learned=replace(LEARNED, **changes))


def kept(**changes: object) -> Figures:
    return replace(GOOD, kept=replace(KEPT, **changes))


def content(name: str, **changes: object) -> Figures:
    return replace(GOOD, learned=replace(LEARNED, **{name: replace(getattr(LEARNED, name), **changes)}))


def drift(parent: float | None = 0.5, base: float | None = 1.0) -> Figures:
    return replace(GOOD, drift=Drift(parent, base))


def lengths(candidate: float | None, parent: float | None = 10.0) -> Figures:
    return replace(GOOD, lengths=Lengths(candidate, parent))


def manners(**changes: float | None) -> Figures:
    return replace(GOOD, manners=replace(GOOD.manners, **changes))


def rule(figures: Figures, name: str, gate: sections.Gate = GATE) -> Rule:
    return next(found for found in judge(figures, gate) if found.name == name)
