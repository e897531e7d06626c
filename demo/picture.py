"""Draw `.demo/report.png`: what each version knows, what EWC keeps, and the losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo.report import count_right, other_ways

# Points of (optimizer step, task loss, EWC penalty); the task loss is in the objective's unit.
Curve = Sequence[tuple[int, float, float]]
BLUE, LIGHT, GREY, RED, INK, PALE = "#1f6f8b", "#8fbfcd", "#b8bfc6", "#d1495b", "#22303c", "#6b7885"


def draw(body: Mapping[str, Any], curves: Mapping[str, Curve], path: Path) -> None:
    """Write a PNG from the content of report.json and the losses of each version's training."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": PALE,
        "axes.edgecolor": "#d5dade",
        "xtick.color": PALE,
        "ytick.color": PALE,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with plt.rc_context(style):
        figure = plt.figure(figsize=(13, 9), facecolor="white")
        grid = figure.add_gridspec(
            2,
            2,
            width_ratios=(1.25, 1),
            height_ratios=(1.35, 1),
            left=0.075,
            right=0.965,
            top=0.775,
            bottom=0.075,
            hspace=0.5,
            wspace=0.24,
        )
        _headline(figure, body)
        _matrix(figure.add_subplot(grid[0, 0]), body)
        _kept(figure.add_subplot(grid[0, 1]), body)
        _losses(figure.add_subplot(grid[1, :]), curves)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _headline(figure: Any, body: Mapping[str, Any]) -> None:
    last = max(answer["window"] for answer in body["answers"])
    asked = [answer for answer in body["answers"] if answer["window"] == last]
    base, live = count_right(asked)
    others = other_ways(body["forgetting"])
    kept = body["forgetting"]
    figure.text(
        0.04,
        0.95,
        f"After {_count(len(body['versions']))} weeks of thumbs, {body['live']} answers {live} of {len(asked)} new "
        f"questions right; the base model {base}",
        fontsize=17,
        fontweight="bold",
    )
    figure.text(
        0.04,
        0.913,
        f"EWC with {kept['structure']} (λ = {kept['lambda']:.3g}) keeps {kept['kept_mean']:.0%} of what earlier weeks "
        f"taught{f'; {others}' if others else ''}.",
        fontsize=12,
        color=PALE,
    )


def _matrix(axes: Any, body: Mapping[str, Any]) -> None:
    """Rows: base and versions; columns: facts of the base and of each week. A frame marks the week just learned."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    shares: Sequence[Sequence[float]] = body["forgetting"]["matrix"]
    colours = LinearSegmentedColormap.from_list("shares", ["#f4f6f7", "#a9cdd8", BLUE, "#10475b"])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            axes.text(
                column,
                row,
                f"{share:.0%}",
                ha="center",
                va="center",
                fontsize=11,
                color="white" if share > 0.5 else INK,
                fontweight="bold" if row == column else "normal",
            )
    for week in range(1, len(shares)):
        axes.add_patch(
            Rectangle(
                (week - 0.5, week - 0.5), 1, 1, fill=False, edgecolor="#f2a541", linewidth=2.5, zorder=5, clip_on=False
            )
        )
    columns = ["base facts", *(f"week {week}\n{_day(v['window']['start'])}" for week, v in _weeks(body))]
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(shares)), ["base model", *(version["version"] for version in body["versions"])])
    axes.tick_params(length=0, labelcolor=INK)
    axes.xaxis.tick_top()
    axes.set_xticks([edge + 0.5 for edge in range(len(columns) - 1)], minor=True)
    axes.set_yticks([edge + 0.5 for edge in range(len(shares) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        "Right answers by version and by week of the facts", loc="left", fontsize=12, fontweight="bold", pad=42
    )
    axes.text(
        0,
        -0.07,
        "Framed: the week that the version has just learned. No user asked in the wording of these questions.",
        transform=axes.transAxes,
        fontsize=9,
        color=PALE,
        va="top",
    )


def _kept(axes: Any, body: Mapping[str, Any]) -> None:
    """A bar for each way of training and each earlier week, measured after the last week."""
    kept = body["forgetting"]
    bars = [(kept["kept"], BLUE, kept["structure"])]
    for name, colour, label in (("diagonal", LIGHT, "diagonal"), ("without", GREY, "no EWC")):
        if f"kept_{name}" in kept:
            bars.append((kept[f"kept_{name}"], colour, label))
    for number, (values, colour, label) in enumerate(bars):
        places = [week + 0.27 * (number - (len(bars) - 1) / 2) for week in range(len(values))]
        axes.bar(places, values, width=0.25, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(place, value + 0.02, f"{value:.0%}", ha="center", va="bottom", fontsize=10)
    axes.set_xticks(range(len(kept["kept"])), [f"week {week + 1}" for week in range(len(kept["kept"]))])
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.tick_params(length=0, labelcolor=INK)
    axes.legend(frameon=False, loc="upper left", ncols=3, borderaxespad=0, columnspacing=1.2, handlelength=1.2)
    axes.set_title(
        f"Still right after week {len(kept['kept']) + 1}", loc="left", fontsize=12, fontweight="bold", pad=14
    )


def _losses(axes: Any, curves: Mapping[str, Curve]) -> None:
    """Task loss and penalty over the optimizer steps of all versions in order."""
    start, ends = 0, []
    for number, (version, curve) in enumerate(curves.items()):
        steps, task, penalty = zip(*curve, strict=True)
        places = [start + step for step in steps]
        axes.plot(places, task, color=BLUE, linewidth=2, label="task loss" if not number else None)
        axes.plot(places, penalty, color=RED, linewidth=2, label="EWC penalty" if not number else None)
        end = start + steps[-1]
        axes.text(
            (start + end) / 2,
            1.03,
            version,
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontweight="bold",
        )
        start = end
        ends.append(end)
    for end in ends[:-1]:
        axes.axvline(end, color="#d5dade", linewidth=1)
    axes.set_xlim(0, start)
    axes.set_ylim(bottom=0)
    axes.tick_params(length=0)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, loc="best")
    axes.set_title("Training, week by week", loc="left", fontsize=12, fontweight="bold", pad=24)


def _weeks(body: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    return list(enumerate(body["versions"], start=1))


def _day(moment: str) -> str:
    from datetime import datetime

    return f"from {datetime.fromisoformat(moment):%d %b}"


def _count(number: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)
