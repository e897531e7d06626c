"""The picture of the year: what each method learned week by week, and what was left of each week at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from yearly.chain import Year

AGES = 8


def draw(years: Mapping[str, Sequence[Year]], path: Path) -> None:
    """Write a PNG to `path`: one line per method, the mean over its seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, (name, found) in enumerate(years.items()):
        learned = np.mean([year.learned for year in found], axis=0)
        kept = np.mean([year.kept[len(year.learned)] for year in found], axis=0)
        base = np.mean([year.base[len(year.learned)] for year in found])
        weeks, colour = len(learned), f"C{place}"
        parts = np.array_split(np.arange(weeks), AGES)
        middles = [part.mean() + 1 for part in parts]
        left.plot(middles, [learned[part].mean() for part in parts], color=colour, label=name, linewidth=2)
        right.plot(middles, [kept[part].mean() for part in parts], color=colour, linewidth=2)
        right.plot(-2, base, marker="o", color=colour, clip_on=False)
    left.set(title="Learned: a week's facts right after the week", xlabel="week of the year", ylabel="share right")
    right.set(title="Kept: the same facts at the end of the year", xlabel="week in which they were learned")
    right.set_xticks([-2, *range(1, weeks + 1, 10)], ["base", *map(str, range(1, weeks + 1, 10))])
    for axes in (left, right):
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=110)
