"""Command-line arguments, machine description, table, targets and JSON result of a benchmark.

    arguments = report.arguments(__doc__)
    report.publish(
        "thumbs",
        rows=[{"objective": "kto", "liked": 0.4}],
        targets=[report.Target("liked answers likelier, nats per token", 0.4, ">=", 0.0)],
        packages=("torch",),
        arguments=arguments,
    )

The file is {"benchmark", "machine", "versions", "arguments", "rows": […], "targets": [{"name", "figure", "comparison",
"bound", "reached"}]}, under benchmarks/results/. A run with --full or on a GPU writes a separate file.
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from common import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Target:
    """A target of a benchmark. `figure` is None if this machine cannot measure it: the target stays open."""

    name: str
    figure: float | None
    comparison: Literal[">=", "<="]
    bound: float

    @property
    def reached(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure >= self.bound if self.comparison == ">=" else self.figure <= self.bound

    @property
    def verdict(self) -> str:
        """For display: reached, open, or missed and by what share of the bound."""
        if self.figure is None or self.reached:
            return "open" if self.figure is None else "reached"
        return f"missed by {abs(self.figure / self.bound - 1):.0%}" if self.bound else "missed"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "figure": self.figure,
            "comparison": self.comparison,
            "bound": self.bound,
            "reached": self.reached,
        }


def parser(description: str | None, *, tiny: bool = False, gpu: bool = True) -> argparse.ArgumentParser:
    """A parser with --device, --full, --seed and --results; `gpu` says whether the script supports a GPU. `tiny` adds
    an option for a run of seconds, used by tests."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda") if gpu else ("cpu",), default="cpu")
    parser.add_argument("--full", action="store_true", help="more seeds and larger shapes than the five-minute default")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--results", default=str(RESULTS), help="the directory that the JSON is written to")
    if tiny:
        parser.add_argument(
            "--tiny", action="store_true", help="run in seconds to check that it works: figures mean nothing"
        )
    return parser


def arguments(
    description: str | None, argv: Sequence[str] | None = None, *, tiny: bool = False, gpu: bool = True
) -> argparse.Namespace:
    """Parse `argv` or the command line with `parser`."""
    return parser(description, tiny=tiny, gpu=gpu).parse_args(argv)


def machine(device: str) -> dict[str, Any]:
    """The machine behind the figures: processor, cores, memory, load of the last minute, and the GPU if it was used."""
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device == "cuda":
        import torch

        described["gpu"] = torch.cuda.get_device_name()
        described["gpu_memory_bytes"] = torch.cuda.get_device_properties(0).total_memory
    return described


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of Python and of `packages`."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> Table:
    """A table of `rows` with `columns`, key → heading (None: every key of the first row); floats to three digits."""
    headings = dict(columns) if columns else {key: key.replace("_", " ") for key in rows[0]}
    drawn = Table(title=title)
    for key, heading in headings.items():
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        drawn.add_column(heading, justify="right" if numeric else "left")
    for row in rows:
        drawn.add_row(*(_shown(row.get(key)) for key in headings))
    return drawn


def publish(
    benchmark: str,
    *,
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target],
    packages: Sequence[str],
    arguments: argparse.Namespace,
    columns: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Print the table and targets, write the JSON and return its path. Rows are JSON objects in nats, s, bytes."""
    device, full = getattr(arguments, "device", "cpu"), getattr(arguments, "full", False)
    console = Console()
    if not console.is_terminal:  # a log file has no width
        console = Console(width=170)
    console.print(table(title or benchmark, rows, columns))
    if targets:
        shown = [
            {"target": t.name, "figure": t.figure, "bound": f"{t.comparison} {t.bound:g}", "": t.verdict}
            for t in targets
        ]
        console.print(table("targets", shown))
    directory = Path(getattr(arguments, "results", RESULTS))
    path = directory / f"{benchmark}{'-full' if full else ''}{'-cuda' if device == 'cuda' else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": benchmark,
        "machine": machine(device),
        "versions": versions(packages),
        "arguments": {name: value for name, value in vars(arguments).items() if name != "results"},
        "rows": list(rows),
        "targets": [target.to_json() for target in targets],
    }
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    console.print(os.path.relpath(path, ROOT))
    return path


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _processor() -> str:
    """The processor's name if the system reports it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
