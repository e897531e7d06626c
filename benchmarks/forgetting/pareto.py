"""Learned against retained, as a plot: a point a seed for the chosen setting, and a line over the development grid."""

from collections.abc import Sequence
from pathlib import Path

from common import ROOT

from forgetting.chain import Run


def plot(title: str, retained: str, development: Sequence[Run], reported: Sequence[Run], path: Path) -> None:
    """Write a PNG to `path`, the figure `retained` over `learned`; above and to the right is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(dict.fromkeys(run.method.name for run in reported)):
        colour = f"C{place % 10}"
        axes.plot(*_points(name, retained, development), color=colour, alpha=0.35, linewidth=1, marker=".")
        marker = "o" if place < 10 else "s"
        axes.scatter(*_points(name, retained, reported), color=colour, marker=marker, label=name, zorder=3)
    axes.set(
        xlabel="learned: score of each week right after it",
        ylabel=f"{retained}: score at the end",
        title=f"{title}: dots are the reported seeds, lines the development grid",
    )
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _points(name: str, retained: str, runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    points = sorted((run.figure("learned"), run.figure(retained)) for run in runs if run.method.name == name)
    return [x for x, _ in points], [y for _, y in points]
