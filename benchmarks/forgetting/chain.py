"""A base model and its weeks, one after the other, as the weekly DAG would train them."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from forgetting.methods import Memory, Method, memory
from forgetting.world import World
from learning_engine.config import sections
from learning_engine.learning import trainer
from learning_engine.learning.model import Loaded


@dataclass(frozen=True)
class Outcome:
    """`scores[i][j]`: of the base's rows (j = 0) and of week j, after the base (i = 0) and after week i."""

    scores: tuple[tuple[float, ...], ...]

    @property
    def learned(self) -> float:
        """Mean score of each week right after it."""
        return float(np.mean([row[week] for week, row in enumerate(self.scores)][1:]))

    @property
    def kept(self) -> float:
        """Mean score, at the end, of the weeks before the last."""
        return float(np.mean(self.scores[-1][1:-1]))

    @property
    def base(self) -> float:
        """Score, at the end, of what the base knew."""
        return self.scores[-1][0]

    @property
    def retained(self) -> float:
        """Mean of what is left of the weeks and of the base."""
        return (self.kept + self.base) / 2

    @property
    def overall(self) -> float:
        """Mean score at the end, half of the base's rows and half of the weeks."""
        return float(self.base + np.mean(self.scores[-1][1:])) / 2

    @property
    def forgotten(self) -> float:
        """Mean over the base and the weeks before the last: best score ever less score at the end."""
        table = np.array(self.scores)
        return float(np.mean((table.max(0) - table[-1])[:-1]))


@dataclass(frozen=True)
class Run:
    seed: int
    method: Method
    outcome: Outcome
    seconds: float

    def figure(self, name: str) -> float:
        return float(getattr(self.outcome, name))


def run(world: World, method: Method, *, seed: int) -> Outcome:
    """Train all weeks of `world` by `method`. Equal arguments give equal outcomes on one machine."""
    loaded = world.load(seed)
    chance, kept = np.random.default_rng(seed), memory(method, seed=seed)
    kept.measure(loaded, world.known)
    old = _some(world.known, method.anchors, chance)
    scores = [_scores(world, loaded)]
    for week, rows in enumerate(world.weeks):
        _learn(world, loaded, [rows, *old], kept, method, seed=seed + week)
        kept.measure(loaded, rows)
        old += _some(rows, method.replay, chance)
        scores.append(_scores(world, loaded))
    return Outcome(tuple(scores))


def _learn(
    world: World, loaded: Loaded, rows: list[datasets.Dataset], kept: Memory, method: Method, *, seed: int
) -> None:
    examples = datasets.concatenate_datasets(rows)
    # Half a step less, so that rounding never makes it one step more.
    epochs = (world.steps - 0.5) / -(-len(examples) // world.batch_size)
    training = sections.Training(
        objective="weighted_sft",
        epochs=epochs,
        learning_rate=method.learning_rate,
        batch_size=world.batch_size,
        seed=seed,
        log_steps=world.steps,
        checkpoint_steps=world.steps + 1,
    )
    with tempfile.TemporaryDirectory() as workdir:
        trainer.train(
            loaded,
            examples,
            kept.penalty(loaded),
            training,
            workdir=Path(workdir),
            resume=None,
            on_checkpoint=None,
            on_log=_ignore,
        )


def _scores(world: World, loaded: Loaded) -> tuple[float, ...]:
    return tuple(world.score(loaded.model, rows) for rows in (world.known_test, *world.tests))


def _some(rows: datasets.Dataset, count: int, chance: np.random.Generator) -> list[datasets.Dataset]:
    return [rows.select(chance.permutation(len(rows))[:count])] if count else []


def _ignore(progress: dict[str, Any]) -> None:
    logging.getLogger(__name__).debug("%s", progress)
