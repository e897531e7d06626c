"""Default response headers: no caching, and framing by Airflow only. Called by lazy."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

# Responses are private to the signed-in user. None of them, including the model card as HTML, needs a script, a style,
# an image or a form. The page in Airflow's navigation sets its own policy.
DEFAULTS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    b"referrer-policy": b"same-origin",
    b"vary": b"Accept, Authorization, Cookie",
    b"x-content-type-options": b"nosniff",
}


def with_default_headers(send: Send) -> Send:
    """Wrap `send` so that a response gets each of DEFAULTS that it does not set itself."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            named = {name.lower() for name, _ in headers}
            message = {**message, "headers": [*headers, *(item for item in DEFAULTS.items() if item[0] not in named)]}
        await send(message)

    return add
