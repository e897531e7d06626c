"""Plot retained over learned: a point per seed for the chosen setting, and a line over the development grid."""

from collections.abc import Sequence
from pathlib import Path

from common import ROOT

from forgetting.chain import Run

MARKERS = "osD^vP*X<>"


def plot(title: str, retained: str, development: Sequence[Run], reported: Sequence[Run], path: Path) -> None:
    """Write a PNG to `path` that shows the figure `retained` over `learned`; up and to the right is better.

    The legend lists the methods by their best point, highest first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(run.method.name for run in reported))
    for name in sorted(names, key=lambda name: -max(_points(name, retained, reported)[1])):
        place = names.index(name)
        colour = f"C{place % 10}"
        axes.plot(*_points(name, retained, development), color=colour, alpha=0.35, linewidth=1, marker=".")
        marker = MARKERS[place % len(MARKERS)]
        axes.scatter(*_points(name, retained, reported), color=colour, marker=marker, s=45, label=name, zorder=3)
    axes.set(
        xlabel="learned: score of each week right after it",
        ylabel=f"{retained}: score at the end",
        title=f"{title}: markers are the reported seeds, lines the development grid",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=110)
    print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _points(name: str, retained: str, runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    points = sorted((run.figure("learned"), run.figure(retained)) for run in runs if run.method.name == name)
    return [x for x, _ in points], [y for _, y in points]
