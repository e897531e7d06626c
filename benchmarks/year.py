"""A year of weeks in a tiny Llama: does it still learn in week 52, what is left of each week, and of the base?

    .venv/bin/python benchmarks/year.py

The base knows 100 facts. Each of 52 weeks adds 10, in 8 phrasings, through one LoRA adapter of rank 16 on q, k, v and o
(the world of forgetting_llama). A week takes 60 optimizer steps, with four old rows a new one 120; replayed rows are
drawn from all earlier weeks, a quarter of them from 300 rows of the base. Each method's learning rate, and its λ unless
that is `auto`, are chosen on another seed over half a year: those that keep most, among those that learn. Bytes are
what a week stores: Fisher information, adapter, and its rows if they are replayed. Writes benchmarks/results/year.json
and .png; takes at most an hour on two idle cores.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import report
from forgetting import lessons, world
from forgetting.study import use_one_thread
from forgetting_llama import of_facts
from yearly import chain, picture
from yearly.chain import Year
from yearly.methods import BASE_ONLY, FOUR, METHODS, ROWLESS, TWO, WEEKS, Method

DEVELOPMENT, SEEDS = 100, 3
LEARNED = 0.95
# A seed, how many weeks, where base models are cached, and the method.
Work = tuple[int, int, Path, Method]


def build(seed: int, weeks: int, folder: Path) -> world.World:
    """The world of `seed`. Its base model is trained once and cached in `folder`."""
    return of_facts(lessons.Language(names=700), [100, *[10] * weeks], folder, seed=seed)


def choose(pool: Executor, folder: Path, weeks: int, methods: Sequence[Method]) -> list[Method]:
    """Each of `methods` at the λ and rate that keep most on the development seed, among those that learn."""
    tried = [variant for method in methods for variant in method.variants()]
    found = list(zip(tried, pool.map(_run, [(DEVELOPMENT, weeks, folder, method) for method in tried]), strict=True))
    for method, year in found:
        print(f"λ {method.strength}, rate {method.rate:g}: {_said(method, year)}", flush=True)
    chosen = []
    for method in methods:
        mine = [(each, year) for each, year in found if each.name == method.name]
        able = [pair for pair in mine if min(pair[1].by_quarter()) >= LEARNED] or mine
        chosen.append(max(able, key=lambda pair: pair[1].kept_at_the_end())[0])
    return chosen


def row(method: Method, years: Sequence[Year]) -> dict[str, Any]:
    """Medians over the seeds, and each seed's figures."""
    quarters = list(zip(*(year.by_quarter() for year in years), strict=True))
    median = statistics.median
    weeks = max(years[0].kept)
    found: dict[str, Any] = {
        "method": method.name,
        "lambda": str(method.strength) if method.penalty != "none" else "–",
        "rate": method.rate,
        **{f"learned Q{place + 1}": median(values) for place, values in enumerate(quarters)},
        "kept": median(year.kept_at_the_end() for year in years),
        "base": median(year.base[weeks] for year in years),
        "kept_by_seed": [round(year.kept_at_the_end(), 3) for year in years],
        "base_by_seed": [round(year.base[weeks], 3) for year in years],
        "learned_least": min(map(min, quarters)),
        "seconds_a_week": median(median(year.seconds[-8:]) for year in years) if years[0].seconds else None,
        "seconds_growth": median(_growth(year) for year in years) if years[0].seconds else None,
        "kilobytes_a_week": years[0].stored // 1000 if years[0].stored else None,
    }
    for after in years[0].kept:
        found[f"kept after {after}"] = median(float(statistics.mean(year.kept[after])) for year in years)
    return found


def targets(table: Sequence[dict[str, Any]]) -> list[report.Target]:
    found = {row["method"]: row for row in table}
    bounds = {TWO: (0.70, None), FOUR: (0.80, 0.95), BASE_ONLY: (0.40, 0.95), ROWLESS: (0.40, 0.95)}
    targets = []
    for name, (kept, base) in bounds.items():
        targets.append(report.Target(f"{name}: learned, least quarter", found[name]["learned_least"], ">=", LEARNED))
        targets.append(report.Target(f"{name}: kept", found[name]["kept"], ">=", kept))
        if base is not None:
            targets.append(report.Target(f"{name}: base", found[name]["base"], ">=", base))
        growth = found[name]["seconds_growth"]
        targets.append(report.Target(f"{name}: seconds a week, end over start", growth, "<=", 1.2))
    return targets


def main(options: argparse.Namespace) -> None:
    weeks, seeds = (8, [options.seed]) if options.tiny else (WEEKS, [options.seed + n for n in range(SEEDS)])
    methods = (
        [replace(method, steps=method.steps // 20, grid=method.grid[:1], rates=method.rates[:1]) for method in METHODS]
        if options.tiny
        else METHODS
    )
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, ProcessPoolExecutor(2, context, use_one_thread) as pool:
        folder = Path(directory)
        # Build the base models first, so that no two processes build the same one.
        list(pool.map(_prepare, [(seed, weeks, folder) for seed in (DEVELOPMENT, *seeds)]))
        chosen = choose(pool, folder, weeks // 2, methods)
        runs = [(method, seed) for method in chosen for seed in seeds]
        years: dict[Method, list[Year]] = {method: [] for method in chosen}
        for (method, seed), year in zip(
            runs, pool.map(_run, [(seed, weeks, folder, method) for method, seed in runs]), strict=True
        ):
            years[method].append(year)
            print(f"seed {seed}: {_said(method, year)}", flush=True)
    table = [row(method, found) for method, found in years.items()]
    columns = (
        "method",
        "lambda",
        "rate",
        *(f"learned Q{n}" for n in (1, 2, 3, 4)),
        "kept",
        "base",
        "seconds_a_week",
        "kilobytes_a_week",
    )
    path = report.publish(
        "year-tiny" if options.tiny else "year",
        rows=table,
        targets=targets(table),
        packages=("torch", "transformers", "peft"),
        arguments=options,
        columns={name: name.replace("_", " ") for name in columns},
        title=f"After {weeks} weeks: medians of seeds {', '.join(map(str, seeds))}",
    )
    picture.draw({method.name: found for method, found in years.items()}, path.with_suffix(".png"))


def _prepare(work: tuple[int, int, Path]) -> None:
    """Build the base of a seed; a world cannot be sent between processes."""
    build(*work)


def _run(work: Work) -> Year:
    seed, weeks, folder, method = work
    return chain.run(build(seed, weeks, folder), method, seed=seed)


def _growth(year: Year) -> float:
    """Seconds a week at the end of the year, relative to those after the first month; medians of eight weeks."""
    return statistics.median(year.seconds[-8:]) / statistics.median(year.seconds[4:12])


def _said(method: Method, year: Year) -> str:
    quarters = ", ".join(f"{value:.2f}" for value in year.by_quarter())
    return (
        f"{method.name}: learned {quarters}, kept {year.kept_at_the_end():.2f}, base {year.base[max(year.base)]:.2f} "
        f"({sum(year.seconds):.0f} s)"
    )


if __name__ == "__main__":
    main(report.arguments(__doc__, tiny=True, gpu=False))
