"""Each rule passes, fails and fails closed."""

from dataclasses import replace

import pytest

from learning_engine.evaluation.figures import Figures
from learning_engine.evaluation.gate import accepted, judge
from tests.evaluation.good import (
    GATE,
    GOOD,
    INFINITE,
    NAN,
    WINDOW,
    content,
    drift,
    kept,
    learned,
    lengths,
    manners,
    rule,
)


def test_a_good_candidate_passes_every_rule() -> None:
    rules = judge(GOOD, GATE)
    assert [found.name for found in rules] == [
        "heldout", "users", "integrity", "finite", "learned", "taught", "margin", "disliked", "retained", "drift",
        "drift_base", "base", "length", "ends", "servable",
    ]  # fmt: skip
    assert all(found.passed and found.why.endswith(".") for found in rules)
    assert accepted(rules)


@pytest.mark.parametrize(
    ("name", "figures", "figure"),
    [
        ("heldout", learned(conversations=7), 7.0),
        ("users", replace(GOOD, users=2), 2.0),
        ("users", replace(GOOD, users=0), None),
        ("users", replace(GOOD, users=None), None),
        ("integrity", replace(GOOD, broken_weights=3), 3.0),
        ("finite", learned(loss_base=NAN), 1.0),
        ("finite", drift(base=INFINITE), 1.0),
        ("finite", kept(scores={"v1.0": NAN, "v1.1": -INFINITE}), 2.0),
        ("finite", kept(drift={"v1.0": NAN, "v1.1": 0.1}), 1.0),
        ("margin", learned(margin_growth=-0.51), -0.51),
        ("margin", learned(margin=NAN), None),
        ("margin", learned(margin_parent=-INFINITE), None),
        ("length", lengths(4.9), 0.49),
        ("length", lengths(20.5), 2.05),
        ("length", lengths(None), None),
        ("length", lengths(10.0, None), None),
        ("length", lengths(10.0, 0.0), None),
        ("length", lengths(NAN), None),
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
        ("taught", content("taught", candidate=0.49), 0.49),
        ("taught", content("taught", candidate=0.0, conversations=8), 0.0),
        ("disliked", content("refused", candidate=0.151), 0.051),
        ("disliked", content("refused", places=10, candidate=0.3), 0.2),
        ("ends", content("ends", candidate=0.39), 0.39),
        ("ends", content("ends", candidate=0.0), 0.0),
        ("retained", kept(content={"v1.0": WINDOW, "v1.1": replace(WINDOW, retained=0.09)}), 0.09),
        ("base", manners(loss=0.751), 0.101),
        ("base", manners(loss=0.751, kl=1.01), 1.01),
        ("base", manners(loss=0.6, kl=1.01), 1.01),
        ("base", manners(loss=None), None),
        ("base", manners(kl=NAN), None),
        ("finite", manners(kl=NAN), 1.0),
        ("servable", replace(GOOD, unservable="Rank 64 is more than the server's 16."), 0.0),
    ],
)
def test_a_single_failed_rule_rejects_the_candidate(name: str, figures: Figures, figure: float | None) -> None:
    found = rule(figures, name)
    assert not found.passed
    assert found.figure == (None if figure is None else pytest.approx(figure))
    assert found.why.endswith(".")
    assert not accepted(judge(figures, GATE))


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("heldout", learned(conversations=8)),
        ("users", replace(GOOD, users=3)),
        ("margin", learned(margin_growth=-0.5)),
        ("margin", learned(margin=-9.0, margin_growth=9.0)),
        ("margin", learned(margin=-9.0, margin_growth=None)),
        ("length", lengths(5.0)),
        ("length", lengths(20.0)),
        ("learned", learned(gain_lower_bound=-0.05)),
        ("retained", kept(retained={"v1.0": 0.2})),
        ("drift", drift(parent=2.0)),
        ("drift_base", drift(base=3.0)),
        ("base", manners(loss=0.7499, kl=1.0)),
        ("base", manners(left=0.1)),
        ("taught", content("taught", candidate=0.5)),
        ("taught", content("taught", candidate=0.0, conversations=7)),
        ("taught", content("taught", places=0, conversations=0, candidate=None)),
        ("disliked", content("refused", candidate=0.0)),
        ("disliked", content("refused", places=10, candidate=0.2)),
        ("ends", content("ends", candidate=0.4)),
        ("ends", content("ends", candidate=0.0, conversations=7)),
        ("ends", content("ends", candidate=0.0, parent=0.19)),
        ("ends", content("ends", candidate=None, parent=None)),
        ("disliked", content("refused", candidate=0.9, conversations=7)),
        ("disliked", content("refused", candidate=None, parent=None, conversations=0)),
        ("retained", kept(retained={"v1.0": 0.1, "v1.1": 0.9}, content={"v1.0": replace(WINDOW, retained=0.2)})),
        ("retained", kept(content={"v1.0": replace(WINDOW, retained=None)})),
        ("finite", learned(margin=None, margin_parent=None)),
        ("margin", learned(margin=None, margin_parent=None)),
    ],
)
def test_a_figure_at_its_bound_passes(name: str, figures: Figures) -> None:
    assert rule(figures, name).passed
    assert accepted(judge(figures, GATE))


def test_rules_of_content_are_judged_only_if_configured() -> None:
    off = GATE.model_copy(update={"min_taught": None, "max_disliked_rise": None})
    assert {"taught", "disliked"}.isdisjoint(found.name for found in judge(GOOD, off))


def test_the_margin_says_how_much_likelier_disliked_answers_became() -> None:
    assert rule(GOOD, "margin").why.endswith("Disliked answers became 0.200 nats per token likelier.")
    assert rule(learned(disliked_rise=-0.1), "margin").why.endswith("0.100 nats per token less likely.")


def test_drift_from_the_base_is_bounded_only_if_configured() -> None:
    far = drift(base=99.0)
    assert accepted(judge(far, GATE.model_copy(update={"max_kl_base": None})))
    assert not accepted(judge(far, GATE))


def test_a_margin_without_liked_or_disliked_answers_is_not_judged_and_says_so() -> None:
    found = rule(learned(margin=None, margin_parent=None), "margin")
    assert (found.passed, found.figure) == (True, None)
    assert "not both held out" in found.why


@pytest.mark.parametrize("users", [None, 0])
def test_without_known_users_only_min_users_of_one_passes(users: int | None) -> None:
    alone = GATE.model_copy(update={"min_users": 1})
    found = rule(replace(GOOD, users=users), "users", alone)
    assert (found.passed, found.figure, found.bound) == (True, None, 1.0)
    assert "is unknown" in found.why
    assert rule(replace(GOOD, users=1), "users", alone).figure == 1.0


def test_length_is_checked_against_the_bound_on_its_side() -> None:
    assert (rule(lengths(8.0), "length").comparison, rule(lengths(8.0), "length").bound) == (">=", 0.5)
    assert (rule(lengths(10.0), "length").comparison, rule(lengths(10.0), "length").bound) == ("<=", 2.0)
    assert "0.80 times as long as those of the parent" in rule(lengths(8.0), "length").why


def test_without_rules_nothing_is_accepted() -> None:
    assert not accepted([])
