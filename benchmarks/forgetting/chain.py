"""Train a base model on its weeks, one after the other, as the weekly DAG does."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from forgetting.methods import Method, PenaltySource, penalty_source
from forgetting.world import World
from learning_engine.config import sections
from learning_engine.learning import trainer
from learning_engine.learning.model import Loaded


@dataclass(frozen=True)
class Outcome:
    """`scores[i][j]`: the score on the base's rows (j = 0) or week j, after base training (i = 0) or after week i."""

    scores: tuple[tuple[float, ...], ...]

    @property
    def learned(self) -> float:
        """Mean over the weeks of the score right after the week was learned."""
        return float(np.mean([row[week] for week, row in enumerate(self.scores)][1:]))

    @property
    def kept(self) -> float:
        """Mean final score on the weeks before the last."""
        return float(np.mean(self.scores[-1][1:-1]))

    @property
    def base(self) -> float:
        """Final score on what the base knew."""
        return self.scores[-1][0]

    @property
    def retained(self) -> float:
        """Mean of `kept` and `base`."""
        return (self.kept + self.base) / 2

    @property
    def overall(self) -> float:
        """Mean final score, half from the base's rows and half from the weeks."""
        return float(self.base + np.mean(self.scores[-1][1:])) / 2

    @property
    def forgotten(self) -> float:
        """Mean over the base and the weeks before the last of the best score ever minus the final score."""
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
    """Train all weeks of `world` with `method`. Equal arguments give equal outcomes on the same machine."""
    loaded = world.load(seed)
    rng, penalties = np.random.default_rng(seed), penalty_source(method, seed=seed)
    penalties.measure(loaded, world.known)
    old = _sample(world.known, method.anchors, rng)
    scores = [_scores(world, loaded)]
    for week, rows in enumerate(world.weeks):
        _learn(world, loaded, [rows, *old], penalties, method, seed=seed + week)
        penalties.measure(loaded, rows)
        old += _sample(rows, method.replay, rng)
        scores.append(_scores(world, loaded))
    return Outcome(tuple(scores))


def _learn(
    world: World, loaded: Loaded, rows: list[datasets.Dataset], penalties: PenaltySource, method: Method, *, seed: int
) -> None:
    examples = datasets.concatenate_datasets(rows)
    # Half a step less, so that rounding never adds a step.
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
            penalties.penalty(loaded),
            training,
            workdir=Path(workdir),
            resume=None,
            on_checkpoint=None,
            on_log=_ignore,
        )


def _scores(world: World, loaded: Loaded) -> tuple[float, ...]:
    return tuple(world.score(loaded.model, rows) for rows in (world.known_test, *world.tests))


def _sample(rows: datasets.Dataset, count: int, rng: np.random.Generator) -> list[datasets.Dataset]:
    return [rows.select(rng.permutation(len(rows))[:count])] if count else []


def _ignore(progress: dict[str, Any]) -> None:
    logging.getLogger(__name__).debug("%s", progress)
