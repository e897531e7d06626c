"""Client of Learning Engine's and Airflow's REST APIs, with the user's login."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from learning_engine.cli import login, transport
from learning_engine.cli.transport import Answer

if TYPE_CHECKING:
    import requests

PREFIX = "/learning-engine"


@dataclass(frozen=True)
class Client:
    """A client for one server and one user. Every call raises CliError on failure."""

    login: login.Login

    @classmethod
    def of(cls, url: str | None) -> Client:
        """Raises CliError if there is no login."""
        return cls(login.find(url))

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        seconds: float = transport.READ_SECONDS,
        also: tuple[int, ...] = (),
    ) -> Answer:
        """`also`: further statuses to accept as success."""
        return self._answer("GET", PREFIX + path, params=params, seconds=seconds, also=also)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._answer("POST", PREFIX + path, json=body)

    def airflow(self, path: str) -> Answer:
        """GET from Airflow's own REST API."""
        return self._answer("GET", f"/api/v2/{path}")

    def text(self, path: str) -> bytes:
        """GET a response that is not JSON."""
        with self._send("GET", PREFIX + path) as response:
            return bytes(response.content)

    def stream(self, path: str) -> AbstractContextManager[requests.Response]:
        """GET a streamed response without content encoding."""
        return self._send("GET", PREFIX + path, stream=True, headers={"Accept-Encoding": "identity"})

    def page(self, path: str) -> str:
        """The absolute address of a page of Airflow."""
        return urljoin(self.login.url, path)

    def _answer(self, method: str, path: str, **options: Any) -> Answer:
        with self._send(method, path, **options) as response:
            return Answer(response.content, transport.parse(response, self.login.url))

    def _send(self, method: str, path: str, **options: Any) -> AbstractContextManager[requests.Response]:
        return transport.send(method, self.login.url, path, token=self.login.token, **options)
