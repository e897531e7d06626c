"""Markdown tables and cells."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    rule = ["--:" if column in right else "---" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def cell(value: Any) -> str:
    """Text that cannot break out of a table cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def literal(value: Any) -> str:
    """Text that may come from users, as a cell: neither Markdown nor HTML in it has an effect."""
    return re.sub(r"([\\`*_\[\]<>&|~])", r"\\\1", " ".join(str(value).split()))


def code(value: Any) -> str:
    return "`" + cell(value).replace("`", "'") + "`"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
