"""The demo's output: stages with their time, runs task by task, versions, answers side by side.

On a terminal it is drawn live; elsewhere (CI, a pipe) each finished stage or task is one plain line.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from demo.rest import RunState, TaskState

ENDED = {
    "success": ("✓", "green"),
    "skipped": ("–", "dim"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("✗", "red"),
}
PLAIN_WIDTH = 130
ACTIVE = ("running", "queued", "restarting", "up_for_retry", "up_for_reschedule", "deferred")


@dataclass
class Stage:
    """One timed stage. `seconds` is None while it runs; `note` describes its result."""

    name: str
    began: float
    seconds: float | None = None
    failed: bool = False
    note: str = ""


class Screen:
    """The demo's output. Stages may run concurrently in threads; `seconds` has the time of each finished stage."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self.seconds: dict[str, float] = {}
        self._stages: list[Stage] = []
        self._runs: list[RunState] = []
        self._printed: set[tuple[str, str]] = set()
        self._lock = threading.RLock()
        self._live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=8, transient=False)

    @property
    def live(self) -> bool:
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> "Screen":
        if self.live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live and self._live.is_started:
            self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style or None, soft_wrap=True, markup=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time the block as the stage `name`; the block may set `note`, which is shown next to it."""
        stage = Stage(name, time.monotonic())
        with self._lock:
            self._stages.append(stage)
        try:
            yield stage
        except BaseException:
            stage.failed = True
            raise
        finally:
            stage.seconds = time.monotonic() - stage.began
            with self._lock:
                self.seconds[name] = round(stage.seconds, 1)
            if not self.live:
                self.say(
                    f"{'✗' if stage.failed else '✓'} {stage.name:<34} {stage.seconds:6.1f} s  {stage.note}".rstrip()
                )

    def show_runs(self, runs: Sequence[RunState]) -> None:
        """Show the state of every run; without a terminal, print one line for each task that has newly ended."""
        with self._lock:
            self._runs = list(runs)
        if self.live:
            return
        for run in runs:
            for task in run.tasks:
                if task.state in ENDED and (run.run_id, task.task) not in self._printed:
                    self._printed.add((run.run_id, task.task))
                    self.say(f"    {run.start:%d %b} – {run.end:%d %b}  {task.task:<10} {task.state} {_seconds(task)}")

    def _draw(self) -> RenderableType:
        with self._lock:
            parts: list[RenderableType] = [_stages(self._stages)]
            if self._runs:
                parts += ["", _runs(self._runs)]
        return Group(*parts)


def versions_table(rows: Sequence[Sequence[Any]]) -> Table:
    """The table of versions; each row has one text per column."""
    table = Table(title="Versions", title_style="bold", title_justify="left", header_style="bold")
    for name in ("version", "parent", "window", "rows", "learned", "kept", "drift", "gate", "deployed"):
        table.add_column(
            name, justify="right" if name in ("rows", "learned", "kept", "drift") else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return table


def answers_table(title: str, answers: Sequence[Mapping[str, Any]]) -> Table:
    """Questions with the answers of the base model and of the live adapter, each marked right or wrong."""
    table = Table(title=title, title_style="bold", title_justify="left", header_style="bold")
    for name in ("question", "base model", "live adapter"):
        table.add_column(name, overflow="fold")
    for answer in answers:
        table.add_row(answer["question"], *(mark(answer[who], answer[f"{who}_right"]) for who in ("base", "live")))
    return table


def mark(answer: str, right: bool) -> Text:
    return Text(f"{'✓' if right else '✗'} {answer}", style="green" if right else "red")


def verdict(good: bool, yes: str, no: str) -> Text:
    return Text(yes if good else no, style="green" if good else "red")


def _stages(stages: Sequence[Stage]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=2)
    table.add_column(min_width=30)
    table.add_column(justify="right", min_width=8)
    table.add_column(style="dim", overflow="fold")
    for stage in stages:
        running = stage.seconds is None
        seconds = time.monotonic() - stage.began if stage.seconds is None else stage.seconds
        sign: RenderableType = (
            Spinner("dots") if running else Text("✗" if stage.failed else "✓", "red" if stage.failed else "green")
        )
        table.add_row(sign, Text(stage.name, "bold" if running else ""), f"{seconds:.1f} s", stage.note)
    return table


def _runs(runs: Sequence[RunState]) -> Table:
    """A row for each run, with a sign for each task in order."""
    table = Table.grid(padding=(0, 2))
    for run in runs:
        signs = Text()
        for task in run.tasks:
            sign, style = ENDED.get(task.state or "", ("●", "yellow") if task.state in ACTIVE else ("·", "dim"))
            signs.append(f"{sign} ", style)
        now = next((task.task for task in run.tasks if task.state in ACTIVE), "")
        spent = sum(task.seconds or 0 for task in run.tasks)
        doing = Text(run.state if run.state != "running" or not now else now, ENDED.get(run.state, ("", "yellow"))[1])
        table.add_row(f"{run.start:%d %b} – {run.end:%d %b}", signs, doing, f"{spent:.0f} s" if spent else "")
    return table


def _seconds(task: TaskState) -> str:
    return f"{task.seconds:.1f} s" if task.seconds is not None else ""
