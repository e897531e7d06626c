"""One request and its answer; every failure becomes a CliError with a message for people and a code for scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from learning_engine.cli import codes
from learning_engine.cli.codes import CliError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
# The first answers of a busy machine take half a minute.
READ_SECONDS = 120.0
# An act whose answer is lost may have been done, and asked again it would be done twice.
UNKNOWN = "whether it was started is not known: look with `learning-engine status` or in Airflow before you ask again."
PROBLEM = "application/problem+json"
# Everything that moves a terminal's cursor or changes its colours: what others wrote is shown, never obeyed.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Fields(dict[str, Any]):
    """A JSON object of the server's."""

    def __missing__(self, name: str) -> Any:
        raise CliError(
            codes.SERVER_ERROR,
            f"Expected {name!r} in the server's answer, found {', '.join(self) or 'nothing'}: "
            "the server and this program are of different versions.",
        )


@dataclass(frozen=True)
class Answer:
    """What the server said: its bytes for scripts, its fields for tables."""

    raw: bytes
    body: Any


@contextmanager
def send(
    method: str,
    url: str,
    path: str,
    *,
    token: str | None = None,
    seconds: float = READ_SECONDS,
    also: tuple[int, ...] = (),
    **options: Any,
) -> Iterator[requests.Response]:
    """An answer that is a success, or has a status of `also` and is no problem. Raises CliError for every other one."""
    import requests

    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As an argument of its own it also keeps a password of ~/.netrc from taking the token's place.
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    limits = (CONNECT_SECONDS, seconds)
    try:
        # A redirect is never followed: it would turn a POST into a GET, and carry the token elsewhere.
        with requests.request(
            method, url + path, auth=authorise, timeout=limits, allow_redirects=False, **options
        ) as response:
            fits = response.status_code in also and not _of_type(response, PROBLEM)
            if not (200 <= response.status_code < 300 or fits):
                raise _problem(response, url)
            if _of_type(response, "text/html"):
                # Airflow answers an address that it does not know with its page, and 200.
                raise CliError(codes.NO_ACCESS, f"Expected an answer of Learning Engine, found a web page: {_ask(url)}")
            yield response
    except requests.ConnectionError as error:
        # A time-out of the connecting is one as well.
        message = f"Cannot reach {url}: {_reason(error)}."
        if token and method == "POST" and _was_sent(error):
            message = f"{url} broke off without an answer; {UNKNOWN}"
        raise CliError(codes.NO_ACCESS, message, retryable=True) from error
    except requests.Timeout as error:
        again = UNKNOWN if token and method == "POST" else "try again."
        raise CliError(codes.NO_ACCESS, f"{url} gave no answer in time; {again}", retryable=True) from error
    except requests.RequestException as error:
        raise CliError(codes.NO_ACCESS, f"Cannot reach {url}: {_reason(error)}.", retryable=True) from error


def parse(response: requests.Response, url: str) -> Any:
    """The JSON object of an answer, fit for a terminal. Raises CliError for what is none."""
    try:
        found = json.loads(response.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError(codes.NO_ACCESS, f"Expected JSON of {url}, found something else: {_ask(url)}")
    return readable(found)


def readable(value: Any) -> Any:
    """JSON without control characters, its objects as Fields."""
    if isinstance(value, str):
        return CONTROL.sub("\ufffd", value)
    if isinstance(value, list):
        return [readable(item) for item in value]
    if isinstance(value, dict):
        return Fields({readable(key): readable(item) for key, item in value.items()})
    return value


def _of_type(response: requests.Response, kind: str) -> bool:
    return response.headers.get("Content-Type", "").startswith(kind)


def _was_sent(error: requests.ConnectionError) -> bool:
    from requests import ConnectTimeout
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return not isinstance(error, ConnectTimeout) and not isinstance(reason, NewConnectionError)


def _ask(url: str) -> str:
    return f"is {url} the address of an Airflow that has Learning Engine?"


def _problem(response: requests.Response, url: str) -> CliError:
    status = response.status_code
    if status < 400:
        target = response.headers.get("Location", "another address")
        message = f"Expected an answer of {url}, found a redirect to {target}: give the address that it leads to."
        return CliError(codes.NO_ACCESS, message)
    message = _message(response, url)
    if status == 401:
        message += f" Run `learning-engine login --url {url} --user NAME`."
    return CliError(codes.of_status(status), message, retryable=status >= 500 or status == 429)


def _message(response: requests.Response, url: str) -> str:
    """Title and detail of a problem; of an answer that is none, what stands in it."""
    plain = f"{response.status_code} {response.reason}"
    try:
        body = readable(json.loads(response.content))
    except ValueError:
        return f"{plain}: {_ask(url)}" if response.status_code == 404 else plain
    if not isinstance(body, dict) or not (detail := body.get("detail")):
        return plain
    said = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
    return f"{body.get('title') or plain}: {said}"


def _reason(error: Exception) -> str:
    """The innermost reason, without the objects and addresses that requests puts around it."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    return text.rpartition(": ")[2].rstrip(")'.") or type(error).__name__
