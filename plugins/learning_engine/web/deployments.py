"""What is live, and what was live when. Reads the ledger alone."""

from datetime import UTC
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.registry import manifest
from learning_engine.steps.resources import Resources
from learning_engine.web.answers import DeploymentAt, DeploymentPage, Live
from learning_engine.web.auth import reader, reader_or_token
from learning_engine.web.backend import Backend, OpenBackend, OpenResources
from learning_engine.web.bodies import Moment
from learning_engine.web.flights import LastKnown
from learning_engine.web.problems import responses
from learning_engine.web.threads import STORE, Router

# For so long at most an application that asks through a cache follows the pointer late.
CACHE_SECONDS = 5
# So long an application waits for the store before it is told what was live last.
PATIENCE_SECONDS = 2

router = Router(tags=["deployments"], responses=responses(401, 503))


@router.get("/live", dependencies=[Depends(reader_or_token)])
async def live(request: Request, backend: OpenBackend, response: Response) -> Live:
    """The name that applications ask the model server for; the last known one while the store gives no answer."""
    last_known: LastKnown[Live] = request.app.state.live
    known = await last_known.ask(lambda: STORE.run(_live, backend))
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
    """Damaged metadata must not keep applications from the name, which the ledger knows."""
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
    """The ledger, newest first: what went live, when, and by whose decision."""
    entries, unreadable = resources.ledger.history()
    return DeploymentPage(
        total=len(entries),
        limit=limit,
        offset=offset,
        items=entries[offset : offset + limit],
        rollback_target=_way_back(resources),
        unreadable=[key.removeprefix(manifest.LEDGER) for key in unreadable],
    )


def _way_back(resources: Resources) -> str | None:
    try:
        return resources.ledger.rollback_target()
    except IntegrityError:
        return None


@router.get("/deployments/at", dependencies=[Depends(reader)], responses=responses(422))
def deployment_at(
    resources: OpenResources,
    time: Annotated[Moment, Query(description="With a time zone.", examples=["2026-11-16T12:00:00Z"])],
) -> DeploymentAt:
    """Which version answered at `time`."""
    entry = resources.ledger.at(time.astimezone(UTC))
    return DeploymentAt(time=time, version=entry.version if entry else None, deployment=entry)
