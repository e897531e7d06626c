"""What people and scripts see: the answer on stdout, everything else on stderr.

The answer is the server's JSON, byte for byte, or tables of at most 80 columns. Colours come on a terminal only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from learning_engine.cli.wire import Answer

NOTHING = "–"


def console(*, stderr: bool = False) -> Console:
    """Prints words as they are: no markup, no emoji, nothing highlighted."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def say(message: str, style: str = "") -> None:
    """A message for the person at the terminal, on stderr, its lines left whole."""
    console(stderr=True).print(message, style=style, soft_wrap=True)


def write(raw: bytes) -> None:
    """An answer on stdout, unchanged, with one line feed at its end."""
    typer.echo(raw if not raw.endswith(b"\n") else raw[:-1])


def give(answer: Answer, as_json: bool, show: Callable[[Any], Iterable[RenderableType]]) -> None:
    """The answer of a command: the server's own JSON, or what `show` makes of it."""
    if as_json:
        write(answer.raw)
        return
    screen = console()
    for part in show(answer.body):
        screen.print(part)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = (), title: str = ""
) -> Table:
    """`right` names the columns of figures. A cell is a text, a rich Text, or None."""
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
    """Names and values, a line each; what is None is left out."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            made.add_row(name, _cell(value))
    return made


def coloured(word: str, styles: dict[str, str]) -> RenderableType:
    """`word` in the style that `styles` has for it."""
    from rich.text import Text

    return Text(word, styles.get(word, ""))


def _cell(value: Any) -> RenderableType:
    if value is None or value == "":
        return NOTHING
    return value if hasattr(value, "__rich_console__") else str(value)
