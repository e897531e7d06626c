"""Output: results on stdout, messages on stderr.

A result is the server's JSON, byte for byte, or a table of at most 80 columns. Colours appear on a terminal only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from learning_engine.cli.transport import Answer

NOTHING = "–"


def console(*, stderr: bool = False) -> Console:
    """A console that prints text literally: no markup, no emoji, no highlighting."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def say(message: str, style: str = "") -> None:
    """Print a message on stderr without wrapping its lines."""
    console(stderr=True).print(message, style=style, soft_wrap=True)


def write(raw: bytes) -> None:
    """Write a response to stdout, unchanged, with one trailing line feed."""
    typer.echo(raw if not raw.endswith(b"\n") else raw[:-1])


def print_result(answer: Answer, as_json: bool, show: Callable[[Any], Iterable[RenderableType]]) -> None:
    """Print a command's result: the server's JSON, or the tables that `show` yields."""
    if as_json:
        write(answer.raw)
        return
    screen = console()
    for part in show(answer.body):
        screen.print(part)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = (), title: str = ""
) -> Table:
    """`right` names the right-aligned columns. A cell is a string, a rich Text, or None."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title or None,
        title_style="bold",
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def grid(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one per line. None values are omitted."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            made.add_row(name, _cell(value))
    return made


def coloured(word: str, styles: dict[str, str]) -> RenderableType:
    """`word` in its style from `styles`."""
    from rich.text import Text

    return Text(word, styles.get(word, ""))


def _cell(value: Any) -> RenderableType:
    if value is None or value == "":
        return NOTHING
    return value if hasattr(value, "__rich_console__") else str(value)
