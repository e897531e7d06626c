"""The picture of the year: what each method learned week by week, and what was left of each week at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yearly.chain import Year
from yearly.methods import BASE_ONLY, DIAGONAL, ELLA, FOUR, JOINT, ONE, RECENT, REPLAY, ROWLESS, TEXTBOOK

AGES = 8
# Blue is this package, other colours are other methods, grey is the ceiling. Methods without a style are left out.
STYLES: dict[str, dict[str, Any]] = {
    FOUR: {"color": "#08306b", "linewidth": 2.5},
    ONE: {"color": "#2171b5", "linewidth": 3.5},
    RECENT: {"color": "#4292c6", "linewidth": 2, "linestyle": "-."},
    BASE_ONLY: {"color": "#6baed6", "linewidth": 2.5, "linestyle": "--"},
    ROWLESS: {"color": "#9ecae1", "linewidth": 2.5, "linestyle": ":"},
    JOINT: {"color": "#888888", "linewidth": 1.5, "linestyle": ":"},
    REPLAY: {"color": "#d94801", "linewidth": 2},
    DIAGONAL: {"color": "#31a354", "linewidth": 2},
    TEXTBOOK: {"color": "#b10026", "linewidth": 2, "linestyle": "--"},
    ELLA: {"color": "#756bb1", "linewidth": 2, "linestyle": "--"},
}
SAID = {ONE: f"{ONE} (the default)"}


def draw(years: Mapping[str, Sequence[Year]], path: Path) -> None:
    """Write a PNG to `path`: one line per method, the mean over its seeds; the dots are what is left of the base."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name in [name for name in STYLES if name in years]:
        found, style = years[name], STYLES[name]
        learned = np.mean([year.learned for year in found], axis=0)
        kept = np.mean([year.kept[len(year.learned)] for year in found], axis=0)
        base = np.mean([year.base[len(year.learned)] for year in found])
        weeks = len(learned)
        parts = np.array_split(np.arange(weeks), AGES)
        middles = [part.mean() + 1 for part in parts]
        left.plot(middles, [learned[part].mean() for part in parts], label=SAID.get(name, name), **style)
        right.plot(middles, [kept[part].mean() for part in parts], **style)
        right.plot(-2, base, marker="o", markersize=8, color=style["color"], clip_on=False)
    left.set(title="Can it still learn?", xlabel="week of the year", ylabel="share of the week's facts that are right")
    right.set(title="What is left at the end of the year?", xlabel="week in which the facts were learned")
    left.set_xticks(range(1, weeks + 1, 10))
    right.set_xticks([-2, *range(1, weeks + 1, 10)], ["base", *map(str, range(1, weeks + 1, 10))])
    for axes in (left, right):
        axes.set_ylim(-0.02, 1.03)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figure.savefig(path, dpi=110)
