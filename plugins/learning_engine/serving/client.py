"""HTTP client for one replica of a model server, MAX Serve or vLLM. Their LoRA endpoints differ only in the responses.

MAX responds to a load with JSON and error codes as strings, vLLM with plain text and integers. This client reads only
status and message, which suits both. Each call opens a new connection, because a kept-alive one that the server drops
between two calls would look like a failed load.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from learning_engine.config import sections
from learning_engine.errors import ServingError

MESSAGE_LENGTH = 300
# MAX's message when its worker times out. It will return the worker's late reply to the next call.
WORKER_TIMEOUT = "Timeout waiting for LoRA response"


class NoAnswer(ServingError):
    """The call was interrupted or timed out. Whether the server executed it is unknown."""


class ServerOutOfStep(ServingError):
    """MAX Serve will answer the next call with the reply to an earlier one. Only a restart helps."""

    retryable = False


@dataclass(frozen=True)
class Replica:
    """A server at `url`, such as http://max-1:8000. Every method raises ServingError if the server fails or refuses."""

    url: str
    serving: sections.Serving

    def __str__(self) -> str:
        """The address without any credentials."""
        address = urlsplit(self.url)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"

    def models(self) -> list[str]:
        """The names that the server lists, the base model first. A name loaded twice appears twice."""
        response = self._call("GET", "/v1/models")
        try:
            return [str(model["id"]) for model in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise ServingError(
                f"{self}: expected a list of models from GET /v1/models, found other content; is this address MAX "
                "Serve's or vLLM's?"
            ) from None

    def load(self, name: str, path: str) -> None:
        """Load the adapter at `path` on the server's disk, unless `name` is already listed.

        After an interrupted call, GET /v1/models decides whether the load succeeded.
        """
        if name in self.models():
            return
        body = {"lora_name": name, "lora_path": path}
        try:
            self._call("POST", "/v1/load_lora_adapter", body, timeout=self.serving.load_timeout_seconds)
        except NoAnswer:
            if name not in self.models():
                raise

    def unload(self, name: str) -> None:
        """Unload `name`, if it is loaded."""
        self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, accept=404)

    def complete(self, name: str, messages: list[dict[str, str]], *, max_tokens: int) -> str:
        """The greedy answer of at most `max_tokens` tokens. No error contains the answer or the prompt."""
        body = {"model": name, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
        response = self._call("POST", "/v1/chat/completions", body, private=True)
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, TypeError, IndexError):
            raise ServingError(
                f"{self}: expected a chat completion from POST /v1/chat/completions, found other content of "
                f"{len(response.content)} bytes."
            ) from None

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        accept: int = 200,
        private: bool = False,
    ) -> requests.Response:
        read_timeout = timeout or self.serving.request_timeout_seconds
        try:
            response = requests.request(
                method,
                self.url.rstrip("/") + path,
                json=body,
                timeout=(self.serving.connect_timeout_seconds, read_timeout),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise NoAnswer(
                f"{self}: expected an answer to {method} {path} within {read_timeout:g} s, found none "
                f"({type(error).__name__}); is the server up, and is its address right?"
            ) from None
        if response.status_code in (200, accept):
            return response
        # The server's message may quote the request.
        found = "" if private else f": {_message(response)}"
        if WORKER_TIMEOUT in found:
            raise ServerOutOfStep(
                f"{self}: expected 200 from {method} {path}, found {response.status_code}{found}. The server will "
                "return the late reply to the next call: restart this replica, then try again."
            )
        raise ServingError(f"{self}: expected 200 from {method} {path}, found {response.status_code}{found}")


def _message(response: requests.Response) -> str:
    """The server's reason: {"error": {"message"}} of MAX and vLLM, {"message"} of vLLM, otherwise the plain text."""
    try:
        body = response.json()
        body = body.get("error", body)
        message = str(body.get("message", body))
    except (ValueError, AttributeError):
        message = response.text
    return " ".join(message.split())[:MESSAGE_LENGTH]
