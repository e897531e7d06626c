"""Train tasks one after the other with a method, through this package's trainer, and test by label likelihood."""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from forgetting.methods import NoPenalty

from learning_engine.config import sections
from learning_engine.learning import ewc, model, trainer
from learning_engine.learning.base import load_tokenizer
from learning_engine.learning.model import Loaded
from sequential import tasks
from sequential.likelihood import accuracy
from sequential.methods import Method
from sequential.tasks import Task

# Half the default, because an epoch of the default size has few rows.
BATCH = 4


@dataclass(frozen=True)
class World:
    """The base model and the tasks in `data`; `rows` and `test_rows` a task (None: all)."""

    model: str
    data: Path
    device: str
    rows: int | None
    test_rows: int | None
    epochs: float
    development: bool = False

    @property
    def settings(self) -> sections.Model:
        # float32 also on a GPU: methods that add adapters to the base weights would lose small changes in bfloat16.
        return sections.Model(base=self.model, device=self.device, dtype="float32")

    def load(self, seed: int, adapter: Path | None = None) -> Loaded:
        return model.load(self.settings, sections.Lora(), adapter=adapter, trainable=True, seed=seed)

    def tasks(self, names: Sequence[str]) -> list[Task]:
        tokenizer = load_tokenizer(self.settings)
        return [
            tasks.read(
                self.data, name, tokenizer, rows=self.rows, test_rows=self.test_rows, development=self.development
            )
            for name in names
        ]


@dataclass(frozen=True)
class Outcome:
    """Accuracy by task, in the order of training: right after it was learned (None if never alone), and at the end.

    `seconds` is the time of training and measuring, without tests (see `clock`).
    """

    order: tuple[str, ...]
    first: tuple[float, ...] | None
    final: tuple[float, ...]
    seconds: float

    @property
    def average(self) -> float:
        return float(np.mean(self.final))

    @property
    def learned(self) -> float | None:
        return None if self.first is None else float(np.mean(self.first))

    @property
    def transfer(self) -> float | None:
        """Backward transfer: the mean over all tasks but the last of the final accuracy minus the first."""
        return None if self.first is None else float(np.mean(np.subtract(self.final, self.first)[:-1]))


@dataclass(frozen=True)
class Start:
    """The directory of the adapter after the first task of an order, which all sequential methods share."""

    adapter: str
    accuracy: float
    seconds: float


def clock(world: World) -> float:
    """Seconds of this process: on a CPU those that it computed, because other load would distort the comparison."""
    return time.process_time() if world.device == "cpu" else time.monotonic()


def begin(world: World, order: Sequence[str], rate: float, adapter: Path, *, seed: int) -> Start:
    """Train the first task of `order` from the base model and save the adapter."""
    (first,), loaded, began = world.tasks(order[:1]), world.load(seed), clock(world)
    _train(world, loaded, first.train, NoPenalty().penalty(loaded), rate, seed=seed)
    seconds = clock(world) - began
    model.save_adapter(loaded, adapter)
    return Start(str(adapter), accuracy(loaded, first.test), seconds)


def follow(world: World, order: Sequence[str], method: Method, rate: float, start: Start, *, seed: int) -> Outcome:
    """Train the other tasks of `order` in turn. Equal arguments give equal accuracies on the same machine."""
    todo, loaded = world.tasks(order), world.load(seed, Path(start.adapter))
    source, rng = method.source(loaded, seed=seed), np.random.default_rng(seed)
    learned, kept, seconds = [start.accuracy], list[datasets.Dataset](), start.seconds
    for place, (before, task) in enumerate(itertools.pairwise(todo), 1):
        began = clock(world)
        source.measure(loaded, before.train)
        if method.replay:
            kept.append(_sample(before.train, method.replay, rng))
        penalty = source.penalty(loaded)
        _train(world, loaded, task.train, penalty, rate, seed=seed + place, kept=kept)
        seconds += clock(world) - began
        learned.append(accuracy(loaded, task.test))
    final = [*(accuracy(loaded, task.test) for task in todo[:-1]), learned[-1]]
    return Outcome(tuple(order), tuple(learned), tuple(final), seconds)


def jointly(world: World, order: Sequence[str], rate: float, *, seed: int) -> Outcome:
    """Train all tasks at once from the base model."""
    todo, loaded, began = world.tasks(order), world.load(seed), clock(world)
    rows = datasets.concatenate_datasets([task.train for task in todo])
    _train(world, loaded, rows, NoPenalty().penalty(loaded), rate, seed=seed)
    seconds = clock(world) - began
    return Outcome(tuple(order), None, tuple(accuracy(loaded, task.test) for task in todo), seconds)


def untrained(world: World, order: Sequence[str]) -> Outcome:
    """The base model."""
    todo, loaded = world.tasks(order), world.load(seed=0)
    return Outcome(tuple(order), None, tuple(accuracy(loaded, task.test) for task in todo), 0.0)


def _train(
    world: World,
    loaded: Loaded,
    rows: datasets.Dataset,
    penalty: ewc.Penalty,
    rate: float,
    *,
    seed: int,
    kept: Sequence[datasets.Dataset] = (),
) -> None:
    """Each epoch has every row once, and every row of `kept` once."""
    examples = datasets.concatenate_datasets([rows, *kept])
    training = sections.Training(
        objective="weighted_sft",
        epochs=world.epochs,
        learning_rate=rate,
        batch_size=BATCH,
        replay=1 - len(rows) / len(examples),
        seed=seed,
        log_steps=100_000,
        checkpoint_steps=1_000_000,
    )
    with tempfile.TemporaryDirectory() as workdir:
        trainer.train(
            loaded,
            examples,
            penalty,
            training,
            replayed=len(examples) - len(rows),
            workdir=Path(workdir),
            resume=None,
            on_checkpoint=None,
            on_log=lambda _: None,
        )


def _sample(rows: datasets.Dataset, share: float, rng: np.random.Generator) -> datasets.Dataset:
    """The share of the rows, and at least one."""
    return rows.select(rng.permutation(len(rows))[: max(1, round(share * len(rows)))])
