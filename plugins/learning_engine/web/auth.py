"""Authentication and authorization of requests.

The only module that imports Airflow's security code, which is internal to Airflow and may change between versions.
Airflow does not protect a plugin's routes: every route must depend on something from this module.
"""

import hmac
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool

from learning_engine.web.backend import Backend, backend_of
from learning_engine.web.problems import Refused

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
LOGIN_REQUIRED = (
    "Expected a login, found no valid one: get a token with POST /auth/token, send it as `Authorization: Bearer …`."
)


async def reader(request: Request, credentials: Credentials) -> Any:
    """The signed-in user, identified by a token or by the cookie of Airflow's UI."""
    try:
        return await get_user(request, None, credentials)
    except HTTPException as error:
        # Airflow answers 403 to an invalid token. To the caller that is a missing login, like an expired token.
        raise HTTPException(401, LOGIN_REQUIRED, {"WWW-Authenticate": "Bearer"}) from error


async def reader_or_token(
    request: Request, credentials: Credentials, backend: Annotated[Backend, Depends(backend_of)]
) -> None:
    """Accept a signed-in user or the static token `web.token`, since applications and Prometheus do not log in."""
    token = backend.settings.web.token
    if token is not None and credentials is not None:
        offered, expected = credentials.credentials.encode(), token.get_secret_value().encode()
        if hmac.compare_digest(offered, expected):
            return
    await reader(request, credentials)


def same_site(request: Request) -> None:
    """Reject requests that a page of another site sends with this user's cookie (CSRF)."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if site is None and origin is not None:
        foreign = urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise Refused(
            403, "Expected a request from this site's own pages or from a program, found one from another site."
        )


def may_run(dag_id: str, request: Request, user: Any) -> bool:
    """Whether `user` may start runs of this DAG."""
    return _may("POST", DagAccessEntity.RUN, dag_id, request, user)


def sees_runs(
    request: Request, user: Annotated[Any, Depends(reader)], backend: Annotated[Backend, Depends(backend_of)]
) -> bool:
    """Whether the user may see task instances and XComs of the weekly DAG, and so use cached answers about runs."""
    seen = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
    return all(_may("GET", entity, backend.dag_id("weekly"), request, user) for entity in seen)


def _may(method: Literal["GET", "POST"], entity: DagAccessEntity, dag_id: str, request: Request, user: Any) -> bool:
    try:
        requires_access_dag(method, entity, dag_id)(request, user)
    except HTTPException:
        return False
    return True


SeesRuns = Annotated[bool, Depends(sees_runs)]


class Actor:
    """A dependency: a signed-in user who may start runs of the given DAG, with a request from this site."""

    def __init__(self, dag: str) -> None:
        self.dag = dag

    async def __call__(
        self,
        request: Request,
        user: Annotated[Any, Depends(reader)],
        backend: Annotated[Backend, Depends(backend_of)],
    ) -> Any:
        same_site(request)
        dag_id = backend.dag_id(self.dag)
        if not await run_in_threadpool(may_run, dag_id, request, user):
            raise Refused(
                403, f"Expected permission to start runs of {dag_id}, found none: ask an Airflow admin for it."
            )
        return user
