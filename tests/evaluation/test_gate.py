"""Each rule passes, fails and fails closed."""

from dataclasses import replace

import pytest

from learning_engine.config import sections
from learning_engine.evaluation.figures import Drift, Figures, Kept, Learned, Lengths
from learning_engine.evaluation.gate import accepted, judge
from learning_engine.records.report import Content, Manners, Rule
from learning_engine.records.report import Kept as KeptContent
from tests.cli import samples

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


def test_the_content_of_a_window_decides_where_it_is_known_and_says_so() -> None:
    found = rule(
        kept(retained={"v1.0": 0.83, "v1.1": 0.9}, content={"v1.0": replace(WINDOW, retained=0.3)}), "retained"
    )
    assert found.figure == 0.3
    assert "what was learned from the window of v1.0, 30% is retained" in found.why
    assert "the candidate says 70%; the best version said 80%, the base model says 10%" in found.why


def of_parent(retained: dict[str, float], manners: Manners) -> Figures:
    """A candidate whose parent a person accepted with these figures."""
    (version, _) = samples.VERSIONS
    rules = [Rule(name, 0.0, ">=", 0.2, passed=False, why="") for name in ("retained", "base")]
    return replace(GOOD, parent=replace(version.report, retained=retained, kept={}, manners=manners, rules=rules))


def test_a_parent_that_a_person_accepted_does_not_stop_every_later_version() -> None:
    far = replace(GOOD.manners, loss=0.95, kl=1.5)
    before = of_parent({"v1.0": 0.1}, far)
    alike = replace(before, kept=replace(KEPT, retained={"v1.0": 0.1, "v1.1": 0.3}), manners=far)
    assert accepted(judge(alike, GATE))
    assert rule(alike, "retained").bound == 0.1
    assert "10% is needed, as of the parent, which a person accepted." in rule(alike, "retained").why
    assert "1.5 is allowed, as of the parent, which a person accepted." in rule(alike, "base").why
    worse = replace(alike, kept=replace(KEPT, retained={"v1.0": 0.09, "v1.1": 0.3}), manners=replace(far, loss=0.96))
    assert [found.name for found in judge(worse, GATE) if not found.passed] == ["retained", "base"]
    assert [rule(alike, name).vouched for name in ("retained", "base", "learned")] == [True, True, False]
    elsewhere = replace(alike, manners=replace(far, loss=1.0, loss_base=0.7))
    assert [found.name for found in judge(elsewhere, GATE) if not found.passed] == ["base"], "on other conversations"


@pytest.mark.parametrize(
    ("passed", "vouched", "lenient"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_only_a_person_lowers_a_bound(passed: bool, vouched: bool, lenient: bool) -> None:
    """A bound that was raised since is meant for all versions."""
    before = of_parent({"v1.0": 0.1, "v1.1": 0.3}, GOOD.manners)
    rules = [replace(one, passed=passed, vouched=vouched) for one in before.parent.rules]
    figures = replace(before, parent=replace(before.parent, rules=rules))
    found = rule(replace(figures, kept=replace(KEPT, retained={"v1.0": 0.1, "v1.1": 0.3})), "retained")
    assert (found.passed, found.vouched) == (lenient, lenient)


def test_a_window_above_its_bound_does_not_hide_one_below() -> None:
    before = of_parent({"v1.0": 0.05}, GOOD.manners)
    found = rule(replace(before, kept=replace(KEPT, retained={"v1.0": 0.06, "v1.1": 0.15})), "retained")
    assert (found.passed, found.figure, found.bound) == (False, 0.15, 0.2)


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
    assert "No version learned anything on the window of v1.2" in some.why
    assert "contradicts all of v1.3" in rule(kept(superseded=["v1.3"]), "retained").why
    none = rule(replace(GOOD, kept=Kept(missing=["v1.0", "v1.1"])), "retained")
    assert none.passed
    assert none.figure is None
    assert "v1.0, v1.1 is gone" in none.why


def test_the_worst_window_decides_and_is_named() -> None:
    found = rule(kept(retained={"v1.0": 0.7, "v1.1": 0.3, "v1.2": 0.5}), "retained")
    assert (found.figure, found.comparison, found.bound) == (0.3, ">=", 0.2)
    assert "window of v1.1, 30% is retained, the least of 3 earlier windows; at least 20%" in found.why


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
