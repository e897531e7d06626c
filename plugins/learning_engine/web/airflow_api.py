"""Client of Airflow's own public REST API, called in process with the caller's credentials.

Airflow therefore checks, logs and shows every action as if the caller had done it there. Called by actions, training,
preflight and health.
"""

import asyncio
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

from learning_engine.web import PREFIX
from learning_engine.web.concurrency import ConcurrencyLimit
from learning_engine.web.problems import Refused

TIMEOUT_SECONDS = 60
# Shorter than the time-out of a health check, so that a busy Airflow makes the scheduler `unknown`, not `down`.
MONITOR_SECONDS = 10
# Each of Airflow's routes holds a database connection and needs a thread to release it. With more concurrent requests
# than connections or threads, they would wait for each other.
MAX_CONCURRENT = 6
AIRFLOW_LIMIT = ConcurrencyLimit(MAX_CONCURRENT)
# The headers that identify the caller.
CREDENTIALS = ("authorization", "cookie")


class AirflowApi:
    """Airflow's REST API as one caller sees it."""

    def __init__(self, request: Request) -> None:
        self._app = request.app.state.airflow
        self._base = str(request.base_url.replace(path="/"))
        self._headers = {name: request.headers[name] for name in CREDENTIALS if name in request.headers}
        self.root = str(request.scope.get("root_path", "")).removesuffix(PREFIX)

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON of `/api/v2/…`. Raises Refused with Airflow's status and reason if the answer is not 2xx."""
        async with AIRFLOW_LIMIT():
            return await self._ask(method, path, TIMEOUT_SECONDS, **options)

    async def monitor(self) -> Any:
        """Return Airflow's own health. Bypasses the concurrency limit and times out sooner than `call`."""
        return await self._ask("GET", "monitor/health", MONITOR_SECONDS)

    async def _ask(self, method: str, path: str, seconds: float, **options: Any) -> Any:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=self._base) as client:
            try:
                # httpx's own time-out does not apply to an app in this process.
                async with asyncio.timeout(seconds):
                    answer = await client.request(method, f"/api/v2/{path}", headers=self._headers, **options)
            except TimeoutError as error:
                raise Refused(
                    504,
                    f"Expected Airflow to answer {method} {path} within {seconds} s, found no answer: "
                    "check that its database can be reached, then try again.",
                ) from error
        if not answer.is_success:
            raise Refused(answer.status_code, f"Airflow answered {method} {path}: {_reason(answer)}")
        return answer.json() if answer.content else None

    async def find(self, path: str, **options: Any) -> Any:
        """Like `call` with GET, but None for what does not exist or what the caller may not see."""
        try:
            return await self.call("GET", path, **options)
        except Refused as refused:
            if refused.status in (403, 404):
                return None
            raise

    def page(self, dag_id: str, run_id: str) -> str:
        """The path of Airflow's page of a run."""
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
