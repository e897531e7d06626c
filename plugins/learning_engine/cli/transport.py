"""Sends one HTTP request. Every failure becomes a CliError with a message and an exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from learning_engine.cli import exit_codes
from learning_engine.cli.exit_codes import CliError

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
# The first responses of a busy machine can take half a minute.
READ_SECONDS = 120.0
# An action whose response was lost may have started; repeating it could start it twice.
MAY_HAVE_STARTED = "the action may have started: check `learning-engine status` or Airflow before you try again."
PROBLEM = "application/problem+json"
# Control characters, so that text written by others cannot control the terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Fields(dict[str, Any]):
    """A JSON object from the server, with a clear error for a missing field."""

    def __missing__(self, name: str) -> Any:
        raise CliError(
            exit_codes.SERVER_ERROR,
            f"Expected {name!r} in the server's answer, found {', '.join(self) or 'nothing'}: "
            "the server and this program have different versions.",
        )


@dataclass(frozen=True)
class Answer:
    """A response: its bytes for scripts, its fields for tables."""

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
    """Yield a successful response, or one with a status in `also` that is not a problem. Else raises CliError."""
    import requests

    def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Passed as `auth`, so that requests does not replace the token with a password from ~/.netrc.
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    limits = (CONNECT_SECONDS, seconds)
    try:
        # Redirects are not followed: they would turn a POST into a GET, and send the token elsewhere.
        with requests.request(
            method, url + path, auth=authorise, timeout=limits, allow_redirects=False, **options
        ) as response:
            accepted = response.status_code in also and not _of_type(response, PROBLEM)
            if not (200 <= response.status_code < 300 or accepted):
                raise _problem(response, url)
            if _of_type(response, "text/html"):
                # Airflow answers unknown addresses with its web page and status 200.
                raise CliError(
                    exit_codes.NO_ACCESS, f"Expected a response from Learning Engine, found a web page: {_hint(url)}"
                )
            yield response
    except requests.ConnectionError as error:
        # Includes time-outs while connecting.
        message = f"Cannot reach {url}: {_reason(error)}."
        if token and method == "POST" and _was_sent(error):
            message = f"{url} closed the connection without a response; {MAY_HAVE_STARTED}"
        raise CliError(exit_codes.NO_ACCESS, message, retryable=True) from error
    except requests.Timeout as error:
        again = MAY_HAVE_STARTED if token and method == "POST" else "try again."
        raise CliError(exit_codes.NO_ACCESS, f"{url} did not respond in time; {again}", retryable=True) from error
    except requests.RequestException as error:
        raise CliError(exit_codes.NO_ACCESS, f"Cannot reach {url}: {_reason(error)}.", retryable=True) from error


def parse(response: requests.Response, url: str) -> Any:
    """The JSON object of a response, safe for a terminal. Raises CliError for anything else."""
    try:
        found = json.loads(response.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CliError(exit_codes.NO_ACCESS, f"Expected JSON from {url}, found something else: {_hint(url)}")
    return sanitize(found)


def sanitize(value: Any) -> Any:
    """Replace control characters, and turn objects into Fields."""
    if isinstance(value, str):
        return CONTROL.sub("\ufffd", value)
    if isinstance(value, list):
        return [sanitize(item) for item in value]
    if isinstance(value, dict):
        return Fields({sanitize(key): sanitize(item) for key, item in value.items()})
    return value


def _of_type(response: requests.Response, kind: str) -> bool:
    return response.headers.get("Content-Type", "").startswith(kind)


def _was_sent(error: requests.ConnectionError) -> bool:
    from requests import ConnectTimeout
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return not isinstance(error, ConnectTimeout) and not isinstance(reason, NewConnectionError)


def _hint(url: str) -> str:
    return f"is {url} the address of an Airflow with Learning Engine?"


def _problem(response: requests.Response, url: str) -> CliError:
    status = response.status_code
    if status < 400:
        target = response.headers.get("Location", "another address")
        message = f"Expected a response from {url}, found a redirect to {target}: use that address."
        return CliError(exit_codes.NO_ACCESS, message)
    message = _message(response, url)
    if status == 401:
        message += f" Run `learning-engine login --url {url} --user NAME`."
    return CliError(exit_codes.of_status(status), message, retryable=status >= 500 or status == 429)


def _message(response: requests.Response, url: str) -> str:
    """Title and detail of a problem, or whatever another error response contains."""
    status_line = f"{response.status_code} {response.reason}"
    try:
        body = sanitize(json.loads(response.content))
    except ValueError:
        return f"{status_line}: {_hint(url)}" if response.status_code == 404 else status_line
    if not isinstance(body, dict) or not (detail := body.get("detail")):
        return status_line
    text = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
    return f"{body.get('title') or status_line}: {text}"


def _reason(error: Exception) -> str:
    """The innermost reason, without the wrapping that requests adds."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    return text.rpartition(": ")[2].rstrip(")'.") or type(error).__name__
