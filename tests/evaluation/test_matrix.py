"""The matrix R[i, j] of a chain, compared with a handwritten table."""

from typing import Any

import pytest

from learning_engine.evaluation import matrix, superseded
from learning_engine.records.report import Sample, Summary

# Losses of three versions on their windows; the candidate is the fourth.
ROWS = {
    "v1.0": {"v1.0": 1.0},
    "v1.1": {"v1.0": 1.5, "v1.1": 2.0},
    "v1.2": {"v1.0": 0.8, "v1.1": 2.6, "v1.2": 0.4},
}
SCORES = {"v1.0": 1.1, "v1.1": 1.9, "v1.2": 0.7}


class Version:
    def __init__(
        self, version: str, row: dict[str, float], superseded: dict[str, list[int]] | None = None, **sample: Any
    ) -> None:
        self.version = version
        self.report = self
        self.loss = row.get(version)
        self.best: dict[str, float] = {}
        self.superseded, self.sample = superseded or {}, Sample(**sample) if sample else None
        self.scores = {window: loss for window, loss in row.items() if window != version}


def test_the_summary_over_the_chain() -> None:
    found = matrix.summary(ROWS, scores=SCORES, loss=0.6)
    assert found.learned == pytest.approx((1.0 + 2.0 + 0.4 + 0.6) / 4)
    assert found.forgotten == pytest.approx(((1.1 - 0.8) + (1.9 - 1.9) + (0.7 - 0.4)) / 3)
    assert found.backward_transfer == pytest.approx(((1.0 - 1.1) + (2.0 - 1.9) + (0.4 - 0.7)) / 3)


def test_a_first_version_has_no_forgetting_and_no_backward_transfer() -> None:
    assert matrix.summary({}, scores={}, loss=0.6) == Summary(learned=0.6)
    assert matrix.summary({}, scores={}, loss=None) == Summary()


def test_windows_without_a_first_or_a_current_score_are_left_out() -> None:
    gone = matrix.summary(ROWS, scores={"v1.2": 0.7}, loss=None)
    assert gone.learned == pytest.approx((1.0 + 2.0 + 0.4) / 3)
    assert (gone.forgotten, gone.backward_transfer) == (pytest.approx(0.3), pytest.approx(-0.3))
    unscored = {"v1.0": {}, "v1.1": {"v1.0": 1.5}}
    assert matrix.summary(unscored, scores={"v1.0": 1.1}, loss=1.0) == Summary(learned=1.0)


def test_the_best_of_a_window_may_come_from_any_version() -> None:
    assert matrix.best(ROWS) == {"v1.0": 0.8, "v1.1": 2.0, "v1.2": 0.4}


def test_rows_come_from_the_reports_oldest_first() -> None:
    newest_first: list[Any] = [Version(version, row) for version, row in reversed(ROWS.items())]
    found = matrix.rows_of(newest_first)
    assert found == ROWS
    assert list(found) == list(ROWS)


def test_the_rows_that_judge_later_versions_give_the_first_loss_too() -> None:
    newest_first: list[Any] = [Version("v1.0", {"v1.0": 1.0}, rows=8, of=80, loss=1.25)]
    assert matrix.rows_of(newest_first) == {"v1.0": {"v1.0": 1.25}}


def test_losses_on_rows_that_were_superseded_since_are_not_compared() -> None:
    newest_first: list[Any] = [
        Version("v1.2", ROWS["v1.2"]),
        Version("v1.1", ROWS["v1.1"], {"v1.0": [3]}),
        Version("v1.0", ROWS["v1.0"]),
    ]
    assert matrix.rows_of(newest_first) == {"v1.0": {}, "v1.1": ROWS["v1.1"], "v1.2": ROWS["v1.2"]}
    assert superseded.rows(newest_first) == {"v1.0": {3}}


def test_the_best_is_looked_for_on_the_rows_that_still_judge() -> None:
    v2, v1, v0 = (Version(name, ROWS[name], rows=8, of=8, loss=ROWS[name][name]) for name in ("v1.2", "v1.1", "v1.0"))
    v1.best = {"v1.0": 0.5}
    newest_first: list[Any] = [v2, v1, v0]
    assert matrix.best_of(newest_first) == {"v1.0": 0.5, "v1.1": 2.0, "v1.2": 0.4}
    v2.superseded = {"v1.0": [1], "v1.1": [2]}
    assert matrix.best_of(newest_first) == {"v1.0": 0.8, "v1.1": 2.6, "v1.2": 0.4}
    v0.sample = v1.sample = v2.sample = None
    assert matrix.best_of(newest_first) == {}, "older versions were judged on other rows"
