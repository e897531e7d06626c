"""Headers that every answer has which says nothing else: kept by nobody, framed by Airflow only. Called by lazy."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

# Answers are for whoever is signed in. None of them, the model card as HTML included, needs a script, a style, an
# image or a form; the page in Airflow's navigation has a policy of its own.
DEFAULTS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    b"referrer-policy": b"same-origin",
    b"vary": b"Accept, Authorization, Cookie",
    b"x-content-type-options": b"nosniff",
}


def guarded(send: Send) -> Send:
    """`send`, with those of DEFAULTS that an answer has not got."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            named = {name.lower() for name, _ in headers}
            message = {**message, "headers": [*headers, *(item for item in DEFAULTS.items() if item[0] not in named)]}
        await send(message)

    return add
