"""Error responses as problem+json (RFC 9457): what was expected, what was found, what to do."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from learning_engine.errors import FeedbackUnavailable, LearningEngineError, ServingError, StoreError
from learning_engine.web.response_models import Problem

MEDIA_TYPE = "application/problem+json"
# The Retry-After of a 503.
RETRY_SECONDS = 10
UNAVAILABLE = (StoreError, FeedbackUnavailable, ServingError)

logger = logging.getLogger("learning_engine")


class Refused(Exception):
    """Rejects a request with `status`; `detail` says what was expected, what was found and what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's error responses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(statuses)}


def install(app: FastAPI) -> None:
    """Turn every error into a problem. Unexpected ones are logged, and only their type is reported."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(LearningEngineError, _package_error)
    app.add_exception_handler(Exception, _unexpected)


def _respond(status: int, detail: str, *, errors: Any = (), headers: Any = None) -> JSONResponse:
    if status == 503:
        headers = {"Retry-After": str(RETRY_SECONDS), **(headers or {})}
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
    return JSONResponse(problem.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=headers)


async def _refused(_: Request, error: Any) -> JSONResponse:
    return _respond(error.status, error.detail)


async def _http(_: Request, error: Any) -> JSONResponse:
    return _respond(error.status_code, str(error.detail), headers=error.headers)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    # Omit `input`, which may be long, and `ctx`, which may hold exceptions.
    errors = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
    where = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in errors)
    return _respond(422, f"The request is invalid: {where}", errors=jsonable_encoder(errors))


async def _package_error(request: Request, error: Any) -> JSONResponse:
    status = 503 if isinstance(error, UNAVAILABLE) else 500
    logger.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return _respond(status, f"{type(error).__name__}: {error}")


async def _unexpected(request: Request, error: Any) -> JSONResponse:
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return _respond(500, f"Unexpected error ({type(error).__name__}): see the api-server's log.")
