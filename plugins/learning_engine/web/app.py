"""The FastAPI app: routers, error handlers, OpenAPI. Built by `lazy` and by `include.reference.api`."""

from typing import Any

from fastapi import Depends, FastAPI, Request

import learning_engine
from learning_engine.web import (
    actions,
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
from learning_engine.web.auth import reader
from learning_engine.web.backend import Backend
from learning_engine.web.response_models import Live, Problem
from learning_engine.web.single_flight import LastKnown
from learning_engine.web.text_checks import reject_control_characters

DESCRIPTION = """\
The API of a served language model that keeps learning from user feedback. Reading requires an Airflow login, sent as a
bearer token or as the cookie of Airflow's UI. Each action requires permission to start runs of the DAG that carries it
out. `/live` and `/metrics` also accept the static token `web.token`. Errors are `application/problem+json`.
"""
TAGS = [
    {"name": "deployments", "description": "The live version and the deployment history."},
    {"name": "adapters", "description": "The published versions."},
    {"name": "training", "description": "Runs of the weekly DAG, and a preview of one."},
    {"name": "actions", "description": "Each starts a run of the DAG that carries it out."},
    {"name": "health", "description": "Whether each component is up."},
    {"name": "metrics", "description": "For Prometheus."},
    {"name": "storage", "description": "The contents of the bucket."},
    {"name": "me", "description": "The signed-in user."},
]


def build(airflow: Any) -> FastAPI:
    """`airflow` is the ASGI app in which this app is mounted."""
    app = FastAPI(
        title="Learning Engine",
        version=learning_engine.__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(reject_control_characters)],
    )
    app.state.airflow, app.state.backend = airflow, Backend()
    app.state.live = LastKnown[Live](deployments.STORE_WAIT_SECONDS)
    problems.install(app)
    for module in (deployments, adapters, training, preflight, actions, health, scrape, storage, page):
        app.include_router(module.router)
    page.mount(app)

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(reader)])
    async def document(request: Request) -> dict[str, Any]:
        """The OpenAPI document, with the address of this request as its server."""
        return {**describe(app), "servers": [{"url": request.scope.get("root_path", "")}]}

    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. FastAPI describes its own 422 body, which `problems` replaces."""
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
