"""Run every method on a world: choose λ and learning rate on a development seed, report figures on other seeds.

For each method the chosen setting retains most among those that learn within `slack` of the best setting of any method.
If a method has no such setting, the one that learns most is chosen.
Every run is deterministic in its seed and uses one thread; two run at a time by default.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import report
from rich.console import Console

from forgetting import chain, pareto
from forgetting.chain import Run
from forgetting.methods import Method
from forgetting.world import World

DEVELOPMENT, REPORTED = 100, 3
Build = Callable[[int, bool, Path], World]


@dataclass(frozen=True)
class Study:
    """`build(seed, quick, folder)` makes a world. `figures` are the columns, each a property of `Outcome`.

    The choice maximises the figure `retained` among settings whose `learned` is within `slack` of the highest.
    """

    name: str
    build: Build
    methods: tuple[Method, ...]
    learning_rates: tuple[float, ...]
    figures: tuple[str, ...]
    retained: str
    slack: float


def main(study: Study, targets: Callable[[list[dict[str, Any]]], list[report.Target]], description: str | None) -> None:
    """Run the study from the command line: table, targets, JSON, and a plot next to it."""
    parser = report.parser(description, gpu=False)
    parser.add_argument("--quick", action="store_true", help="a smaller world and one seed, to check that it runs")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        development, reported = conduct(study, options, Path(folder))
    table = rows(study, reported)
    path = report.publish(
        f"{study.name}-quick" if options.quick else study.name,
        rows=table,
        targets=targets(table),
        packages=("torch", "transformers", "peft"),
        arguments=options,
        columns={name: name for name in ("method", "lambda", "rate", *study.figures)},
        title=f"{study.name}: medians of the reported seeds",
    )
    pareto.plot(study.name, study.retained, development, reported, path.with_suffix(".png"))


def conduct(study: Study, options: argparse.Namespace, folder: Path) -> tuple[list[Run], list[Run]]:
    """The development runs, and the runs of the chosen settings on the reported seeds."""
    seeds = [options.seed + place for place in range(1 if options.quick else 6 if options.full else REPORTED)]
    print(f"development seed {DEVELOPMENT}, reported seeds {', '.join(map(str, seeds))}", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, use_one_thread) as pool:
        # Build the base models first, so that no two processes build the same one.
        list(pool.map(_build, [(study.build, seed, options.quick, folder) for seed in (DEVELOPMENT, *seeds)]))
        development = _search(pool, study, options, folder)
        chosen = [choose(study, development, method.name) for method in study.methods]
        reported = _run_all(pool, study, options, folder, [(seed, method) for method in chosen for seed in seeds])
    return development, reported


def choose(study: Study, runs: Sequence[Run], name: str) -> Method:
    """The setting of the method `name` that retains most among those that learn enough."""
    floor = max(run.figure("learned") for run in runs) - study.slack
    mine = [run for run in runs if run.method.name == name]
    able = [run for run in mine if run.figure("learned") >= floor]
    if not able:
        return max(mine, key=lambda run: run.figure("learned")).method
    return max(able, key=lambda run: run.figure(study.retained)).method


def rows(study: Study, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per method: λ, learning rate, and each figure's median and values by seed."""
    table = []
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run for run in runs if run.method == method]
        row: dict[str, Any] = {"method": method.name, "lambda": method.ewc_lambda, "rate": method.learning_rate}
        for name in study.figures:
            row[name] = statistics.median(run.figure(name) for run in mine)
        for name in study.figures:
            row[f"{name}_by_seed"] = [round(run.figure(name), 4) for run in mine]
        table.append({**row, "seeds": [run.seed for run in mine], "seconds": [round(run.seconds) for run in mine]})
    return table


def _search(pool: Executor, study: Study, options: argparse.Namespace, folder: Path) -> list[Run]:
    """Run every λ at the first learning rate, then the best λ at the other rates."""
    first, *others = study.learning_rates[:1] if options.quick else study.learning_rates
    grid = [method.at(strength, first) for method in study.methods for strength in method.lambdas]
    found = _run_all(pool, study, options, folder, [(DEVELOPMENT, method) for method in grid])
    best = [choose(study, found, method.name) for method in study.methods]
    again = [(DEVELOPMENT, method.at(method.ewc_lambda, rate)) for method in best for rate in others]
    return found + _run_all(pool, study, options, folder, again)


def _run_all(
    pool: Executor, study: Study, options: argparse.Namespace, folder: Path, wanted: Sequence[tuple[int, Method]]
) -> list[Run]:
    found = []
    for run in pool.map(_run, [(study.build, seed, options.quick, folder, method) for seed, method in wanted]):
        figures = ", ".join(f"{name} {run.figure(name):.3f}" for name in study.figures)
        setting = f"λ {run.method.ewc_lambda:g}, rate {run.method.learning_rate:g}"
        Console(width=160).print(f"seed {run.seed}: {run.method.name}, {setting}: {figures} ({run.seconds:.0f} s)")
        found.append(run)
    return found


def _build(work: tuple[Build, int, bool, Path]) -> None:
    build, *where = work
    build(*where)


def _run(work: tuple[Build, int, bool, Path, Method]) -> Run:
    build, seed, quick, folder, method = work
    started = time.monotonic()
    outcome = chain.run(build(seed, quick, folder), method, seed=seed)
    return Run(seed, method, outcome, time.monotonic() - started)


def use_one_thread() -> None:
    """Use one thread per process: with two threads in each of two processes, two cores are oversubscribed."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
