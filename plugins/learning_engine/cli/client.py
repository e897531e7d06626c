"""Learning Engine's REST API and Airflow's own, as the person who is logged in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from learning_engine.cli import login, wire
from learning_engine.cli.wire import Answer

if TYPE_CHECKING:
    import requests

PREFIX = "/learning-engine"


@dataclass(frozen=True)
class Client:
    """One server, one person. Every call raises CliError where it does not succeed."""

    login: login.Login

    @classmethod
    def of(cls, url: str | None) -> Client:
        """Raises CliError where nobody is logged in."""
        return cls(login.find(url))

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        seconds: float = wire.READ_SECONDS,
        also: tuple[int, ...] = (),
    ) -> Answer:
        """`also`: statuses whose answer is one like 200's."""
        return self._answer("GET", PREFIX + path, params=params, seconds=seconds, also=also)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._answer("POST", PREFIX + path, json=body)

    def airflow(self, path: str) -> Answer:
        """GET of Airflow's own REST API."""
        return self._answer("GET", f"/api/v2/{path}")

    def text(self, path: str) -> bytes:
        """An answer that is no JSON."""
        with self._send("GET", PREFIX + path) as response:
            return bytes(response.content)

    def stream(self, path: str) -> AbstractContextManager[requests.Response]:
        """An answer whose bytes are still to come, exactly as they are sent."""
        return self._send("GET", PREFIX + path, stream=True, headers={"Accept-Encoding": "identity"})

    def page(self, path: str) -> str:
        """The whole address of a page of Airflow's."""
        return urljoin(self.login.url, path)

    def _answer(self, method: str, path: str, **options: Any) -> Answer:
        with self._send(method, path, **options) as response:
            return Answer(response.content, wire.parse(response, self.login.url))

    def _send(self, method: str, path: str, **options: Any) -> AbstractContextManager[requests.Response]:
        return wire.send(method, self.login.url, path, token=self.login.token, **options)
