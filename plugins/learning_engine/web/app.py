"""The FastAPI app: the routers, the errors, the OpenAPI. Built by `lazy`, and by what writes the API's reference."""

from typing import Any

from fastapi import Depends, FastAPI, Request

import learning_engine
from learning_engine.web import (
    acts,
    adapters,
    deployments,
    health,
    page,
    preflight,
    problems,
    scrape,
    storage,
    training,
)
from learning_engine.web.answers import Live, Problem
from learning_engine.web.auth import reader
from learning_engine.web.backend import Backend
from learning_engine.web.flights import LastKnown
from learning_engine.web.plain import plain

DESCRIPTION = """\
A served language model that keeps learning from its users. Reading needs an Airflow login, sent as a bearer token or
as the cookie of Airflow's UI; acting needs the right to start runs of the DAG that does the work. `/live` and
`/metrics` also take the static token `web.token`. Errors are `application/problem+json`.
"""
TAGS = [
    {"name": "deployments", "description": "What is live, and what was live when."},
    {"name": "adapters", "description": "The published versions."},
    {"name": "training", "description": "Runs of the weekly DAG, and what one would find."},
    {"name": "acts", "description": "Each starts a run of the DAG that does the work."},
    {"name": "health", "description": "Whether the parts are up."},
    {"name": "metrics", "description": "For Prometheus."},
    {"name": "storage", "description": "What the bucket holds."},
    {"name": "me", "description": "Who is signed in."},
]


def build(airflow: Any) -> FastAPI:
    """`airflow` is the ASGI app that this one is mounted in."""
    app = FastAPI(
        title="Learning Engine",
        version=learning_engine.__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(plain)],
    )
    app.state.airflow, app.state.backend = airflow, Backend()
    app.state.live = LastKnown[Live](deployments.PATIENCE_SECONDS)
    problems.install(app)
    for module in (deployments, adapters, training, preflight, acts, health, scrape, storage, page):
        app.include_router(module.router)
    page.mount(app)

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(reader)])
    async def document(request: Request) -> dict[str, Any]:
        """The description of this API, at the address at which it was asked for."""
        return {**describe(app), "servers": [{"url": request.scope.get("root_path", "")}]}

    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. FastAPI adds its own shape of a 422, which `problems` does not answer."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    for operations in document["paths"].values():
        for operation in operations.values():
            if "422" in operation["responses"]:
                operation["responses"] |= {"422": problems.responses(422)[422]}
    return document
