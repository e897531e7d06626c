"""Each rule passes, fails and fails closed."""

from dataclasses import replace

import pytest

from learning_engine import sections
from learning_engine.contracts import Rule
from learning_engine.evaluation.figures import Drift, Figures, Kept, Learned
from learning_engine.evaluation.gate import accepted, judge

NAN, INFINITE = float("nan"), float("inf")
GATE = sections.Gate(epsilon=0.05, min_retained=0.2, max_kl_parent=2.0, max_kl_base=3.0, min_heldout=8)
LEARNED = Learned(rows=20, liked=12, loss=1.0, loss_parent=1.5, loss_base=2.0, gain_lower_bound=0.3)
KEPT = Kept(
    scores={"v1.0": 1.4, "v1.1": 1.2},
    base_scores={"v1.0": 2.0, "v1.1": 2.0},
    best={"v1.0": 1.0, "v1.1": 1.0},
    retained={"v1.0": 0.6, "v1.1": 0.8},
)
GOOD = Figures(learned=LEARNED, kept=KEPT, drift=Drift(parent=0.5, base=1.0), has_parent=True)


def learned(**changes: float | None) -> Figures:
    return replace(GOOD, learned=replace(LEARNED, **changes))


def kept(**changes: object) -> Figures:
    return replace(GOOD, kept=replace(KEPT, **changes))


def drift(parent: float | None = 0.5, base: float | None = 1.0) -> Figures:
    return replace(GOOD, drift=Drift(parent, base))


def rule(figures: Figures, name: str, gate: sections.Gate = GATE) -> Rule:
    return next(found for found in judge(figures, gate) if found.name == name)


def test_a_good_candidate_meets_every_rule() -> None:
    rules = judge(GOOD, GATE)
    assert [found.name for found in rules] == [
        "heldout", "finite", "learned", "retained", "drift", "drift_base", "servable",
    ]  # fmt: skip
    assert all(found.passed and found.why.endswith(".") for found in rules)
    assert accepted(rules)


@pytest.mark.parametrize(
    ("name", "figures", "figure"),
    [
        ("heldout", learned(liked=7), 7.0),
        ("finite", learned(loss_base=NAN), 1.0),
        ("finite", drift(base=INFINITE), 1.0),
        ("finite", kept(scores={"v1.0": NAN, "v1.1": -INFINITE}), 2.0),
        ("learned", learned(gain_lower_bound=-0.0501), -0.0501),
        ("learned", learned(gain_lower_bound=NAN), None),
        ("learned", learned(gain_lower_bound=INFINITE), None),
        ("learned", learned(gain_lower_bound=None), None),
        ("retained", kept(retained={"v1.0": 0.9, "v1.1": 0.19}), 0.19),
        ("retained", kept(retained={"v1.0": 0.9, "v1.1": -4.0}), -4.0),
        ("retained", kept(retained={"v1.0": None, "v1.1": 0.9}), None),
        ("retained", kept(retained={"v1.0": 0.9, "v1.1": NAN}), None),
        ("drift", drift(parent=2.01), 2.01),
        ("drift", drift(parent=None), None),
        ("drift", drift(parent=NAN), None),
        ("drift_base", drift(base=3.01), 3.01),
        ("drift_base", drift(base=None), None),
        ("servable", replace(GOOD, unservable="Rank 64 is more than the server's 16."), 0.0),
    ],
)
def test_a_rule_that_fails_alone_refuses_the_candidate(name: str, figures: Figures, figure: float | None) -> None:
    found = rule(figures, name)
    assert not found.passed
    assert found.figure == figure
    assert found.why
    assert not accepted(judge(figures, GATE))


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("heldout", learned(liked=8)),
        ("learned", learned(gain_lower_bound=-0.05)),
        ("retained", kept(retained={"v1.0": 0.2})),
        ("drift", drift(parent=2.0)),
        ("drift_base", drift(base=3.0)),
        ("finite", learned(margin=None, margin_parent=None)),
    ],
)
def test_a_figure_at_its_bound_is_met(name: str, figures: Figures) -> None:
    assert rule(figures, name).passed
    assert accepted(judge(figures, GATE))


def test_drift_from_the_base_bounds_only_where_configured() -> None:
    far = drift(base=99.0)
    assert accepted(judge(far, GATE.model_copy(update={"max_kl_base": None})))
    assert not accepted(judge(far, GATE))


def test_the_first_version_has_no_earlier_window_and_says_so() -> None:
    found = rule(replace(GOOD, kept=Kept(), has_parent=False), "retained")
    assert found.passed
    assert found.figure is None
    assert found.why == "There is no earlier window yet."
    assert "against the base model" in rule(replace(GOOD, has_parent=False), "learned").why


def test_a_window_that_cannot_be_judged_is_named() -> None:
    some = rule(kept(missing=["v0.9"], nothing_learned=["v1.2"]), "retained")
    assert some.passed
    assert "v0.9 is gone" in some.why
    assert "Nothing had been learned on the window of v1.2" in some.why
    none = rule(replace(GOOD, kept=Kept(missing=["v1.0", "v1.1"])), "retained")
    assert none.passed
    assert none.figure is None
    assert "v1.0, v1.1 is gone" in none.why


def test_the_worst_window_decides_and_is_named() -> None:
    found = rule(kept(retained={"v1.0": 0.7, "v1.1": 0.3, "v1.2": 0.5}), "retained")
    assert (found.figure, found.comparison, found.bound) == (0.3, ">=", 0.2)
    assert "window of v1.1, 30% is kept, the least of 3 earlier windows; at least 20%" in found.why


def test_no_rule_is_no_acceptance() -> None:
    assert not accepted([])
