"""Routes for the published versions: list, detail, model card, archive. Reads only the bucket."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from learning_engine.archive import CHUNK
from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import AdapterVersion, Deployment
from learning_engine.registry import claims, manifest
from learning_engine.registry.draft import Vouch
from learning_engine.registry.manifest import VersionNumber
from learning_engine.registry.store import NotFound
from learning_engine.steps.resources import Resources
from learning_engine.web.auth import reader
from learning_engine.web.backend import OpenResources
from learning_engine.web.problems import Refused, responses
from learning_engine.web.request_models import Version
from learning_engine.web.response_models import AdapterDetail, AdapterPage, AdapterSummary
from learning_engine.web.store_threads import STORE_THREADS, Router

router = Router(prefix="/adapters", tags=["adapters"], dependencies=[Depends(reader)], responses=responses(401, 503))


THREADS = 8


@dataclass(frozen=True)
class ListedVersion:
    """A version, and the names of the objects in its folder."""

    version: AdapterVersion
    names: set[str]


def published(resources: Resources) -> tuple[list[ListedVersion], list[str]]:
    """Every readable version, highest number first, and the names of the unreadable ones."""
    listing = claims.listing_of(resources.store)
    numbers = list(reversed(claims.published(listing)))

    def read(number: VersionNumber) -> ListedVersion | None:
        try:
            return ListedVersion(resources.registry.get(str(number)), listing[number])
        except IntegrityError:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(read, numbers))
    unreadable = [str(number) for number, one in zip(numbers, found, strict=True) if one is None]
    return [one for one in found if one is not None], unreadable


@router.get("")
def list_adapters(
    resources: OpenResources,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    accepted: Annotated[bool | None, Query(description="Accepted by the gate.")] = None,
    revoked: bool | None = None,
    base_model: Annotated[str | None, Query(max_length=500)] = None,
) -> AdapterPage:
    """The published versions, newest first."""
    listed, unreadable = published(resources)
    live = _live(resources)
    matching = [
        one
        for one in listed
        if accepted in (None, one.version.accepted)
        and revoked in (None, manifest.REVOKED in one.names)
        and base_model in (None, one.version.base_model)
    ]
    items = [summary(one, live) for one in matching[offset : offset + limit]]
    return AdapterPage(total=len(matching), limit=limit, offset=offset, items=items, unreadable=unreadable)


@router.get("/{version}", responses=responses(404, 422))
def show_adapter(resources: OpenResources, version: Version) -> AdapterDetail:
    """All details of a version."""
    listed, unreadable = published(resources)
    if version in unreadable:
        raise Refused(500, f"Expected the metadata of {version}, found it corrupt: see the daily audit.")
    one = _find(listed, version)
    entries = resources.ledger.entries()
    return AdapterDetail(
        summary=summary(one, entries[0].version if entries else None),
        metadata=one.version,
        lineage=_lineage(listed, one.version.parent),
        children=[other.version.version for other in listed if other.version.parent == version],
        digests=_digests(one.version),
        revocation=resources.registry.revoked(version),
        vouch=_vouch(resources, one),
        deployments=[entry for entry in entries if entry.version == version],
    )


@router.get(
    "/{version}/card",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}, **responses(404, 422)},
)
def show_card(
    resources: OpenResources, version: Version, accept: Annotated[str, Header(max_length=1000)] = "text/markdown"
) -> Response:
    """The model card as Markdown, or rendered as HTML; HTML inside the card is escaped."""
    _require_version(resources, version)
    try:
        text = resources.store.get_bytes(manifest.adapter_key(version, manifest.CARD)).decode()
    except NotFound as error:
        raise Refused(404, f"Expected the model card of {version}, found none: see the daily audit.") from error
    if "text/html" not in accept:
        return PlainTextResponse(text, media_type="text/markdown")
    from markdown_it import MarkdownIt

    body = text.partition("---\n")[2].partition("---\n")[2] if text.startswith("---\n") else text
    return HTMLResponse(MarkdownIt("commonmark", {"html": False}).enable("table").render(body))


@router.get(
    "/{version}/archive",
    response_class=Response,
    responses={200: {"content": {"application/gzip": {}}}, **responses(404, 422)},
)
def download_archive(resources: OpenResources, version: Version) -> StreamingResponse:
    """The archive's bytes as stored in the bucket. `X-Checksum-Sha256` is their expected digest."""
    found = _require_version(resources, version)
    try:
        chunks = resources.store.chunks(resources.store.key(found.uri), CHUNK)
    except NotFound as error:
        raise Refused(
            404, f"Expected the archive of {version}, found none: deleted by retention, or lost; see the daily audit."
        ) from error
    headers = {
        "Content-Disposition": f'attachment; filename="{version}.tar.gz"',
        "Content-Length": str(found.size),
        "ETag": f'"{found.sha256}"',
        "X-Checksum-Sha256": found.sha256,
    }
    return StreamingResponse(STORE_THREADS.iterate(chunks), media_type="application/gzip", headers=headers)


def summary(one: ListedVersion, live: str | None) -> AdapterSummary:
    version, report = one.version, one.version.report
    return AdapterSummary(
        version=version.version,
        parent=version.parent,
        window=version.window,
        created_at=version.created_at,
        base_model=version.base_model,
        accepted=version.accepted,
        live=version.version == live,
        revoked=manifest.REVOKED in one.names,
        vouched=manifest.VOUCHED in one.names,
        failed_rules=[rule.name for rule in report.rules if not rule.passed],
        rows=version.dataset.rows,
        thumbs_up=version.dataset.thumbs_up,
        thumbs_down=version.dataset.thumbs_down,
        loss=report.loss,
        loss_parent=report.loss_parent,
        loss_base=report.loss_base,
        retained=min(report.shares_retained().values(), default=None),
        drift_parent=report.drift_parent,
        ewc_lambda=version.ewc_lambda,
        size=version.size,
        sha256=version.sha256,
    )


def _lineage(listed: list[ListedVersion], parent: str | None) -> list[str]:
    """The ancestors, nearest first, up to the first unreadable one."""
    parents = {one.version.version: one.version.parent for one in listed}
    chain = list[str]()
    while parent is not None:
        chain.append(parent)
        parent = parents.get(parent)
    return chain


def _live(resources: Resources) -> str | None:
    now: Deployment | None = resources.ledger.newest()
    return now.version if now else None


def _find(listed: list[ListedVersion], version: str) -> ListedVersion:
    for one in listed:
        if one.version.version == version:
            return one
    raise unknown_version(version)


def _require_version(resources: Resources, version: str) -> AdapterVersion:
    if version not in resources.registry.numbers():
        raise unknown_version(version)
    return resources.registry.get(version)


def unknown_version(version: str) -> Refused:
    return Refused(404, f"Expected a published version, found no {version}: GET /adapters lists them.")


def _digests(version: AdapterVersion) -> dict[str, str]:
    """The sha256 of each object that the record names, by URI."""
    probes = version.report.probes
    named = (
        (version.uri, version.sha256),
        (version.dataset.uri, version.dataset.sha256),
        (version.fisher.uri, version.fisher.sha256),
        (probes.uri if probes else None, probes.sha256 if probes else None),
    )
    return {uri: sha256 for uri, sha256 in named if uri and sha256}


def _vouch(resources: Resources, one: ListedVersion) -> Vouch | None:
    if manifest.VOUCHED not in one.names:
        return None
    key = manifest.adapter_key(one.version.version, manifest.VOUCHED)
    return resources.store.get_record(key, Vouch)
