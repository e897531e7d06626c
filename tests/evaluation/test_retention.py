"""Retained shares of earlier windows, compared with numbers computed by hand."""

import math

import pytest

from learning_engine.evaluation.retention import NOTHING_LEARNED, shares


@pytest.mark.parametrize(
    ("candidate", "share"),
    [(1.0, 1.0), (2.0, 0.0), (1.25, 0.75), (2.5, -0.5), (0.5, 1.5)],
    ids=["all retained", "equal to the base", "three quarters", "worse than the base", "better than ever"],
)
def test_a_share_is_not_clipped(candidate: float, share: float) -> None:
    assert shares({"v1.0": candidate}, {"v1.0": 2.0}, {"v1.0": 1.0}) == {"v1.0": pytest.approx(share)}


def test_a_window_that_taught_nothing_is_left_out() -> None:
    best = {"v1.0": 2.0 - NOTHING_LEARNED / 2, "v1.1": 2.3}
    assert shares({"v1.0": 2.5, "v1.1": 1.0}, {"v1.0": 2.0, "v1.1": 2.0}, best) == {}


@pytest.mark.parametrize(
    ("candidate", "base", "best"),
    [(None, 2.0, 1.0), (1.0, None, 1.0), (math.nan, 2.0, 1.0), (1.0, math.nan, 1.0), (1.0, 2.0, -math.inf)],
)
def test_a_missing_loss_gives_no_share(candidate: float | None, base: float | None, best: float) -> None:
    assert shares({"v1.0": candidate}, {"v1.0": base}, {"v1.0": best}) == {"v1.0": None}


def test_an_unknown_best_gives_no_share() -> None:
    assert shares({"v1.0": 1.0}, {"v1.0": 2.0}, {}) == {"v1.0": None}
