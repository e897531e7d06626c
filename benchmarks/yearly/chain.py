"""Train a base model on a year of weeks, one after the other, as the weekly DAG does."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
from forgetting.methods import PenaltySource
from forgetting.world import World

from learning_engine.config import sections
from learning_engine.learning import trainer
from learning_engine.learning.model import Loaded, lora_weights
from learning_engine.learning.replayed import ANCHOR_SHARE, rows_to_replay
from yearly.methods import Method

ANCHORS = 300


@dataclass
class Year:
    """Scores from 0 to 1, seconds of the CPU to train and to measure, and the bytes that the last week stored.

    `learned[w]` is the score on week w right after it. `kept[n][w]`, after n weeks, is the score on week w, and
    `base[n]` that on the base's rows.
    """

    learned: list[float] = field(default_factory=list)
    kept: dict[int, list[float]] = field(default_factory=dict)
    base: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    stored: int = 0

    def by_quarter(self) -> list[float]:
        """Mean of `learned` in each quarter of the year."""
        return [float(np.mean(part)) for part in np.array_split(self.learned, 4)]

    def kept_at_the_end(self) -> float:
        """Mean score on all weeks but the last, after the last."""
        return float(np.mean(self.kept[max(self.kept)][:-1]))


def run(world: World, method: Method, *, seed: int) -> Year:
    """Train every week of `world` with `method`, and score after each quarter."""
    loaded, year, weeks = world.load(seed), Year(), len(world.weeks)
    if method.joint:
        everything = datasets.concatenate_datasets([world.known, *world.weeks])
        _train(world, loaded, everything, 0, method.source(loaded, seed=seed), method, steps=weeks * method.steps)
        _score(year, world, loaded, weeks)
        year.learned.extend(year.kept[weeks])
        return year
    rng, penalties = np.random.default_rng(seed), method.source(loaded, seed=seed)
    penalties.measure(loaded, world.known)
    anchor = world.known.select(rng.permutation(len(world.known))[:ANCHORS])
    for week, rows in enumerate(world.weeks):
        began = time.process_time()
        old = _replayed(world.weeks[:week], anchor, len(rows), method, world.batch_size, rng) if method.replay else []
        examples = datasets.concatenate_datasets([rows, *old])
        _train(world, loaded, examples, len(examples) - len(rows), penalties, method, steps=method.steps)
        penalties.measure(loaded, rows)
        year.seconds.append(time.process_time() - began)
        year.learned.append(world.score(loaded.model, world.tests[week]))
        if (week + 1) % (weeks // 4) == 0:
            _score(year, world, loaded, week + 1)
    year.stored = penalties.nbytes() + sum(weight.nbytes for weight in lora_weights(loaded.model).values())
    if method.replay and method.reach:
        year.stored += world.weeks[-1].data.nbytes
    return year


def _replayed(
    earlier: tuple[datasets.Dataset, ...],
    anchor: datasets.Dataset,
    own: int,
    method: Method,
    batch_size: int,
    rng: np.random.Generator,
) -> list[datasets.Dataset]:
    """As many old rows as the training needs to see each once, drawn as `feedback.replay` draws them."""
    an_epoch = rows_to_replay(own, method.replay)
    size = round(method.steps * batch_size / (own + an_epoch)) * an_epoch
    of_anchor = round(size * ANCHOR_SHARE)
    pools = [anchor.select(rng.permutation(len(anchor))[:of_anchor])]
    if within_reach := earlier[max(0, len(earlier) - method.reach) :]:
        kept = datasets.concatenate_datasets(list(within_reach))
        pools.append(kept.select(rng.permutation(len(kept))[: size - of_anchor]))
    return pools


def _train(
    world: World,
    loaded: Loaded,
    examples: datasets.Dataset,
    replayed: int,
    penalties: PenaltySource,
    method: Method,
    *,
    steps: int,
) -> None:
    own = len(examples) - replayed
    an_epoch = own + min(replayed, rows_to_replay(own, method.replay))
    settings = sections.Training(
        objective="weighted_sft",
        # Half a step less, so that rounding never adds a step.
        epochs=(steps - 0.5) / -(-an_epoch // world.batch_size),
        learning_rate=method.rate,
        batch_size=world.batch_size,
        replay=method.replay,
        log_steps=steps,
        checkpoint_steps=steps + 1,
    )
    with tempfile.TemporaryDirectory() as workdir:
        trainer.train(
            loaded, examples, penalties.penalty(loaded), settings, replayed=replayed,
            workdir=Path(workdir), resume=None, on_checkpoint=None, on_log=lambda _: None,
        )  # fmt: skip


def _score(year: Year, world: World, loaded: Loaded, weeks: int) -> None:
    year.kept[weeks] = [world.score(loaded.model, rows) for rows in world.tests[:weeks]]
    year.base[weeks] = world.score(loaded.model, world.known_test)
