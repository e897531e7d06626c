"""Airflow's own public REST API, asked in process with the caller's credentials.

So whatever is done here is checked, logged and shown by Airflow as if the caller had done it there. Called by acts,
training, preflight and health.
"""

import asyncio
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

from learning_engine.web import PREFIX
from learning_engine.web.concurrency import Turns
from learning_engine.web.problems import Refused

SECONDS = 60
# Less than `health` waits for a part: an Airflow that is too busy to tell of the scheduler says nothing of it.
MONITOR_SECONDS = 10
# Each of Airflow's routes holds a connection to its database, and a thread to give it back with. Asked for more at once
# than there are, they wait for each other.
AT_ONCE = 6
TURNS = Turns(AT_ONCE)
# What the caller is known by.
CREDENTIALS = ("authorization", "cookie")


class AirflowApi:
    """One caller's view of Airflow."""

    def __init__(self, request: Request) -> None:
        self._app = request.app.state.airflow
        self._base = str(request.base_url.replace(path="/"))
        self._headers = {name: request.headers[name] for name in CREDENTIALS if name in request.headers}
        self.root = str(request.scope.get("root_path", "")).removesuffix(PREFIX)

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """JSON of `/api/v2/…`. Raises Refused with Airflow's status and reason where it does not answer 2xx."""
        async with TURNS():
            return await self._ask(method, path, SECONDS, **options)

    async def monitor(self) -> Any:
        """Airflow's own health, asked past those who wait for a turn. Raises Refused as `call` does, and sooner."""
        return await self._ask("GET", "monitor/health", MONITOR_SECONDS)

    async def _ask(self, method: str, path: str, seconds: float, **options: Any) -> Any:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=self._base) as client:
            try:
                # Not httpx's own time-out: to an app in this process it does not apply.
                async with asyncio.timeout(seconds):
                    answer = await client.request(method, f"/api/v2/{path}", headers=self._headers, **options)
            except TimeoutError as error:
                raise Refused(
                    504,
                    f"Expected Airflow to answer {method} {path} within {seconds} s, found no answer: "
                    "see whether its database can be reached, and try again.",
                ) from error
        if not answer.is_success:
            raise Refused(answer.status_code, f"Airflow answered {method} {path}: {_reason(answer)}")
        return answer.json() if answer.content else None

    async def find(self, path: str, **options: Any) -> Any:
        """As `call` with GET; None for what is not there or what the caller may not see."""
        try:
            return await self.call("GET", path, **options)
        except Refused as refused:
            if refused.status in (403, 404):
                return None
            raise

    def page(self, dag_id: str, run_id: str) -> str:
        """Where Airflow shows a run."""
        return f"{self.root}/dags/{dag_id}/runs/{run_id}"


def _reason(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code}"
    return detail if isinstance(detail, str) else f"{answer.status_code}, {detail}"


async def airflow_of(request: Request) -> AirflowApi:
    return AirflowApi(request)


OpenAirflow = Annotated[AirflowApi, Depends(airflow_of)]
