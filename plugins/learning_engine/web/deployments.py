"""Routes for the live version and the deployment history. Reads the ledger, and the live version's metadata."""

from datetime import UTC
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.registry import manifest
from learning_engine.steps.resources import Resources
from learning_engine.web.auth import reader, reader_or_token
from learning_engine.web.backend import Backend, OpenBackend, OpenResources
from learning_engine.web.problems import responses
from learning_engine.web.request_models import Moment
from learning_engine.web.response_models import DeploymentAt, DeploymentPage, Live
from learning_engine.web.single_flight import LastKnown
from learning_engine.web.store_threads import STORE_THREADS, Router

# An application that uses a cache may see a deployment this much later.
CACHE_SECONDS = 5
# How long an application waits for the store before it receives the last known answer.
STORE_WAIT_SECONDS = 2

router = Router(tags=["deployments"], responses=responses(401, 503))


@router.get("/live", dependencies=[Depends(reader_or_token)])
async def live(request: Request, backend: OpenBackend, response: Response) -> Live:
    """The model name that applications send to the model server; the last known one while the store is unavailable."""
    last_known: LastKnown[Live] = request.app.state.live
    known = await last_known.ask(lambda: STORE_THREADS.run(_live, backend))
    response.headers["Cache-Control"] = f"private, max-age={CACHE_SECONDS}"
    response.headers["Age"] = str(int(known.age))
    return known.answer.model_copy(update={"age_seconds": round(known.age, 1)})


def _live(backend: Backend) -> Live:
    resources = backend.resources()
    base, now = resources.settings.model.base, resources.ledger.newest()
    if now is None or now.version is None:
        return Live(model=base, version=None, base_model=base, since=now.at if now else None, proven=None)
    return Live(
        model=now.adapter_name,
        version=now.version,
        base_model=_base(resources, now.version),
        since=now.at,
        proven=now.proven,
    )


def _base(resources: Resources, version: str) -> str | None:
    """None if the metadata cannot be read: applications still get the name, which the ledger records."""
    try:
        return resources.registry.get(version).base_model
    except (RegistryError, IntegrityError):
        return None


@router.get("/deployments", dependencies=[Depends(reader)])
def list_deployments(
    resources: OpenResources,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> DeploymentPage:
    """The deployment history, newest first: what was deployed when, and who decided it."""
    entries, unreadable = resources.ledger.history()
    return DeploymentPage(
        total=len(entries),
        limit=limit,
        offset=offset,
        items=entries[offset : offset + limit],
        rollback_target=_rollback_target(resources),
        unreadable=[key.removeprefix(manifest.LEDGER) for key in unreadable],
    )


def _rollback_target(resources: Resources) -> str | None:
    try:
        return resources.ledger.rollback_target()
    except IntegrityError:
        return None


@router.get("/deployments/at", dependencies=[Depends(reader)], responses=responses(422))
def deployment_at(
    resources: OpenResources,
    time: Annotated[Moment, Query(description="With a time zone.", examples=["2026-11-16T12:00:00Z"])],
) -> DeploymentAt:
    """The version that was live at `time`."""
    entry = resources.ledger.at(time.astimezone(UTC))
    return DeploymentAt(time=time, version=entry.version if entry else None, deployment=entry)
