"""How long a run takes on idle cores: seconds a row of each kind of work, measured on a few rows, times the rows."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import datasets
from forgetting.methods import PackagePenalty

from learning_engine.config import sections
from sequential import chain
from sequential.likelihood import accuracy
from sequential.methods import DRAWS, Method

SAMPLE = 2  # rows of each task
TRAIN, TEST, STRUCTURES = "train", "test", ("diagonal", "kronecker")


def seconds_a_row(world: chain.World, names: Sequence[str]) -> dict[str, float]:
    """Seconds to train a row, to test one, and to measure one in each structure; rows of all tasks alike."""
    few = replace(world, rows=SAMPLE, test_rows=SAMPLE, epochs=1.0)
    todo, loaded = few.tasks(names), few.load(seed=0)
    rows = datasets.concatenate_datasets([task.train for task in todo])
    seconds = {TRAIN: chain.jointly(few, names, rate=1e-4, seed=0).seconds / len(rows)}
    for structure in STRUCTURES:
        source = PackagePenalty(sections.Fisher(structure=structure, draws=DRAWS), 1.0, seed=0)
        seconds[structure] = _seconds(world, partial(source.measure, loaded, rows)) / len(rows)
    tested = sum(len(task.test.prompts) for task in todo)
    seconds[TEST] = _seconds(world, lambda: [accuracy(loaded, task.test) for task in todo]) / tested
    return seconds


def rows_of(
    methods: Sequence[Method], *, starts: int, tasks: int, rows: int, epochs: float, tests: int
) -> Counter[str]:
    """How many rows each kind of work has in one order; `starts` first tasks are shared by the sequential methods."""
    later, trained = tasks - 1, rows * epochs
    work = Counter({TRAIN: starts * trained, TEST: starts * tests})
    for method in methods:
        if method.joint:
            work.update({TRAIN: tasks * trained, TEST: tasks * tests})
            continue
        # Task k (from 0) also trains on what is kept of k tasks.
        work.update({TRAIN: later * trained * (1 + method.replay * tasks / 2), TEST: 2 * later * tests})
        if method.penalty in STRUCTURES:
            work[method.penalty] += later * rows
    return work


def total(seconds: Mapping[str, float], work: Mapping[str, float]) -> float:
    return sum(seconds[kind] * count for kind, count in work.items())


def _seconds(world: chain.World, call: Callable[[], object]) -> float:
    began = chain.clock(world)
    call()
    return chain.clock(world) - began
