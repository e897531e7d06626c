"""How far a run is, on stderr: a live bar on a terminal, elsewhere a line for each thing that changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from learning_engine.cli import words
from learning_engine.cli.output import console, say

# Without a terminal, how a training goes is told this often.
SECONDS_A_LINE = 15.0


@dataclass(frozen=True)
class Look:
    """A run at one moment. `progress` is a TrainingProgress while it trains, `remark` what a person should know."""

    state: str
    task: str | None
    progress: Any
    remark: str | None

    @property
    def doing(self) -> str:
        return self.task or self.state if self.state == "running" else self.state


@contextmanager
def shown(run_id: str) -> Iterator[Callable[[Look], None]]:
    """Gives what shows a look; the bar goes when the block ends."""
    say(f"Run {run_id}")
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


def told(progress: Any) -> str:
    """`step 40 of 96, loss 0.421, EWC 0.013, 3 min 20 s to go`."""
    return (
        f"step {progress['step']} of {progress['of']}, loss {words.figure(progress['task_loss'])}, "
        f"EWC {words.figure(progress['ewc_loss'], '.3g')}, {words.duration(progress['eta_seconds'])} to go"
    )


@contextmanager
def _bar() -> Iterator[Callable[[Look], None]]:
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

        def show(look: Look) -> None:
            now = look.progress if look.task == "train" else None
            if look.remark and look.remark not in remarks:
                remarks.add(look.remark)
                progress.console.print(look.remark, soft_wrap=True)
            progress.update(
                bar,
                description=look.doing,
                total=now["of"] if now else None,
                completed=now["step"] if now else 0,
                figures=_figures(now) if now else "",
            )

        yield show


def _figures(progress: Any) -> str:
    return (
        f"{progress['step']}/{progress['of']} loss {words.figure(progress['task_loss'])} "
        f"EWC {words.figure(progress['ewc_loss'], '.3g')} ETA {words.duration(progress['eta_seconds'])}"
    )


def _lines() -> Callable[[Look], None]:
    before = set[str]()
    spoke = float("-inf")

    def show(look: Look) -> None:
        nonlocal spoke
        for line in (look.doing, look.remark):
            if line and line not in before:
                before.add(line)
                say(line)
        if look.progress and look.task == "train" and time.monotonic() - spoke >= SECONDS_A_LINE:
            spoke = time.monotonic()
            say(told(look.progress))

    return show
