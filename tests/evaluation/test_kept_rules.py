"""What must not be lost: earlier windows and the base; and what a person accepted once."""

from dataclasses import replace

import pytest

from learning_engine.evaluation.figures import Figures, Kept
from learning_engine.evaluation.gate import accepted, judge
from learning_engine.records.report import Manners, Rule
from tests.cli import samples
from tests.evaluation.good import GATE, GOOD, KEPT, WINDOW, kept, rule


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


def test_the_content_of_a_window_decides_where_it_is_known_and_says_so() -> None:
    found = rule(
        kept(retained={"v1.0": 0.83, "v1.1": 0.9}, content={"v1.0": replace(WINDOW, retained=0.3)}), "retained"
    )
    assert found.figure == 0.3
    assert "what was learned from the window of v1.0, 30% is retained" in found.why
    assert "the candidate says 70%; the best version said 80%, the base model says 10%" in found.why


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
