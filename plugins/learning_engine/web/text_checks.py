"""Rejects control characters and lone surrogates, which Airflow's database or JSON cannot hold. Called by app."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

# Control characters except tab and line breaks, and lone surrogates.
FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
Path = tuple[str | int, ...]


async def reject_control_characters(request: Request) -> None:
    """A dependency of every route. Raises RequestValidationError, as FastAPI does for an invalid request."""
    sent: dict[str, Any] = {"path": request.path_params, "query": dict(request.query_params.multi_items())}
    if request.method == "POST":
        sent["body"] = await _body(request)
    errors = [
        {
            "type": "forbidden_character",
            "loc": path,
            "msg": f"expected text without control characters or lone surrogates, found {found!a}: remove it",
        }
        for path, found in _find_forbidden(sent)
    ]
    if errors:
        raise RequestValidationError(errors)


async def _body(request: Request) -> Any:
    """The parsed body; None if it is not JSON or nested too deeply to parse, which FastAPI rejects."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


def _find_forbidden(sent: Any) -> Iterator[tuple[Path, str]]:
    """Path and first forbidden character of each bad text. Iterative, since a body may be nested deeply."""
    pending: list[tuple[Path, Any]] = [((), sent)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str) and (found := FORBIDDEN.search(value)):
            yield path, found.group()
        elif isinstance(value, dict):
            pending += [((*path, _printable(key)), item) for key, item in value.items()]
            pending += [((*path, _printable(key)), key) for key in value]
        elif isinstance(value, list):
            pending += [((*path, number), item) for number, item in enumerate(value)]


def _printable(key: str) -> str:
    return FORBIDDEN.sub("?", key)
