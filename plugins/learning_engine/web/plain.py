"""What no text may hold that is sent here: neither Airflow's database nor a JSON answer can take it. Called by app."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError

# Control characters but tab and line breaks, and halves of a surrogate pair.
UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
Place = tuple[str | int, ...]


async def plain(request: Request) -> None:
    """A dependency of every route. Raises what FastAPI raises for a body or a parameter that does not fit."""
    sent: dict[str, Any] = {"path": request.path_params, "query": dict(request.query_params.multi_items())}
    if request.method == "POST":
        sent["body"] = await _body(request)
    errors = [
        {
            "type": "unfit_character",
            "loc": place,
            "msg": f"expected text without control characters and lone surrogates, found {found!a}: leave it out",
        }
        for place, found in _unfit(sent)
    ]
    if errors:
        raise RequestValidationError(errors)


async def _body(request: Request) -> Any:
    """None where it is no JSON, which FastAPI refuses."""
    try:
        return json.loads(await request.body())
    except ValueError:
        return None


def _unfit(sent: Any) -> Iterator[tuple[Place, str]]:
    """Where a text holds what does not fit, and the first of it. Without recursion: a body may be nested deeply."""
    left: list[tuple[Place, Any]] = [((), sent)]
    while left:
        place, value = left.pop()
        if isinstance(value, str) and (found := UNFIT.search(value)):
            yield place, found.group()
        elif isinstance(value, dict):
            left += [((*place, _name(key)), item) for key, item in value.items()]
            left += [((*place, _name(key)), key) for key in value]
        elif isinstance(value, list):
            left += [((*place, number), item) for number, item in enumerate(value)]


def _name(key: str) -> str:
    return UNFIT.sub("?", key)
