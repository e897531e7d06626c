"""Shows a run's progress on stderr: a progress bar on a terminal, otherwise a line per change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from learning_engine.cli import formatting
from learning_engine.cli.output import console, say

# Without a terminal, the interval between lines about a training.
LINE_INTERVAL_SECONDS = 15.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one time. `progress` is a TrainingProgress during training, `remark` a user note."""

    state: str
    task: str | None
    progress: Any
    remark: str | None

    @property
    def activity(self) -> str:
        return self.task or self.state if self.state == "running" else self.state


@contextmanager
def display(run_id: str) -> Iterator[Callable[[Snapshot], None]]:
    """Yields a callback that displays a snapshot. The bar disappears at the end of the block."""
    say(f"Run {run_id}")
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


def summary(progress: Any) -> str:
    """`step 40 of 96, loss 0.421, EWC 0.013, 3 min 20 s left`."""
    return (
        f"step {progress['step']} of {progress['of']}, loss {formatting.figure(progress['task_loss'])}, "
        f"EWC {formatting.figure(progress['ewc_loss'], '.3g')}, {formatting.duration(progress['eta_seconds'])} left"
    )


@contextmanager
def _bar() -> Iterator[Callable[[Snapshot], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task("queued", total=None, figures="")
        remarks = set[str]()

        def show(snapshot: Snapshot) -> None:
            now = snapshot.progress if snapshot.task == "train" else None
            if snapshot.remark and snapshot.remark not in remarks:
                remarks.add(snapshot.remark)
                progress.console.print(snapshot.remark, soft_wrap=True)
            progress.update(
                bar,
                description=snapshot.activity,
                total=now["of"] if now else None,
                completed=now["step"] if now else 0,
                figures=_figures(now) if now else "",
            )

        yield show


def _figures(progress: Any) -> str:
    return (
        f"{progress['step']}/{progress['of']} loss {formatting.figure(progress['task_loss'])} "
        f"EWC {formatting.figure(progress['ewc_loss'], '.3g')} ETA {formatting.duration(progress['eta_seconds'])}"
    )


def _lines() -> Callable[[Snapshot], None]:
    printed = set[str]()
    last_printed = float("-inf")

    def show(snapshot: Snapshot) -> None:
        nonlocal last_printed
        for line in (snapshot.activity, snapshot.remark):
            if line and line not in printed:
                printed.add(line)
                say(line)
        if snapshot.progress and snapshot.task == "train" and time.monotonic() - last_printed >= LINE_INTERVAL_SECONDS:
            last_printed = time.monotonic()
            say(summary(snapshot.progress))

    return show
