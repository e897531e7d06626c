"""Read a row's slices (`feedback.slices`): short texts, such as its language, by which the verdict is broken down.

A slice is read from a column, or along a path into the request or the response. A missing value, a list and an object
are "". Values come from users: whoever shows them must escape them.
"""

import json
from collections.abc import Collection
from typing import Any

from learning_engine.config.sections import Feedback
from learning_engine.feedback.canonical import canonical
from learning_engine.feedback.shapes import Path, Unreadable, compile_path, follow

LONGEST = 64


def columns(feedback: Feedback) -> list[str]:
    """The columns that slices are read from, sorted."""
    return sorted({place for place in feedback.slices.values() if place.isidentifier()})


def wanted(feedback: Feedback) -> set[str]:
    """All columns that the table must have."""
    return {*columns(feedback), *(column for column in feedback.columns.model_dump().values() if column)}


def advice(missing: Collection[str], feedback: Feedback) -> str:
    """Which setting names the `missing` columns."""
    of_slices = set(missing) & set(columns(feedback))
    others = set(missing) - of_slices
    return "set " + " and ".join(["feedback.columns"] * bool(others) + ["feedback.slices"] * bool(of_slices))


def paths(feedback: Feedback) -> tuple[Path, ...]:
    """The path of each slice; that of a column has one step."""
    return tuple(map(compile_path, feedback.slices.values()))


def values(paths: tuple[Path, ...], *, request: Any, response: Any, columns: Any) -> tuple[str, ...]:
    body = {"request": request, "response": response}
    return tuple(_value(columns if len(path) == 1 else body, path) for path in paths)


def _value(data: Any, path: Path) -> str:
    try:
        return _short(follow(data, path))
    except (Unreadable, RecursionError):
        return ""


def _short(value: Any) -> str:
    """One line of at most LONGEST printable characters."""
    if isinstance(value, str):
        value = _decoded(value)
    if value is None or isinstance(value, list | dict):
        return ""
    text = value if isinstance(value, str) else canonical(value)
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * LONGEST])
    return " ".join(printable.split())[:LONGEST].rstrip()


def _decoded(text: str) -> Any:
    """The value, if `text` is a JSON string, list or object, as in a json column."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
