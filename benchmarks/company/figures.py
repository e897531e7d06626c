"""The figures of the study: the columns of its table, and their means over the seeds."""

import statistics
from collections.abc import Sequence
from typing import Any

from company.methods import Method

Figures = dict[str, float | None]
COLUMNS = {
    "method": "method",
    "learned": "learned",
    "kept": "kept",
    "general": "general",
    "base": "base",
    "left": "first choices",
    "kl": "KL",
    "seconds": "CPU seconds a week",
    "megabytes": "MB of factors",
}
FIGURES = tuple(COLUMNS)[1:]
BY_WEEK = ("learned", "kept", "general", "base", "left", "kl")


def mean(method: Method, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures = {name: statistics.mean(run[name] for run in runs) for name in FIGURES}
    return {"method": method.name, **figures, "runs": list(runs)}


def weekly(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures after each week, as means over the seeds."""
    return [
        {"week": weeks[0]["week"], **{name: _mean([week[name] for week in weeks]) for name in BY_WEEK}}
        for weeks in zip(*(run["by_week"] for run in runs), strict=True)
    ]


def _mean(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return statistics.mean(known) if known else None
