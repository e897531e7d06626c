"""The page in Airflow's navigation: static files. They contain no data, so they need no login.

The page requests its data from this API, with the cookie of Airflow's UI. Called by app.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from learning_engine.web.problems import Refused

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
# Fixed here, since the system's table of media types differs between machines.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/markdown; charset=utf-8",
    "": "text/plain; charset=utf-8",
}
POLICY = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # Identical for every user.
    "Vary": "Accept-Encoding",
    # The browser revalidates its copy each time, so that a new version of the package takes effect at once.
    "Cache-Control": "no-cache",
}

router = APIRouter(prefix="/page", include_in_schema=False)


@dataclass(frozen=True)
class File:
    """A file of the page in memory. The ETag depends only on its bytes, so all api-servers send the same one."""

    body: bytes
    media_type: str
    etag: str


@lru_cache(maxsize=1)
def files() -> dict[str, File]:
    """Every file below `static/` by its relative path. Only these can be requested."""
    found = (path for path in sorted(STATIC.rglob("*")) if path.is_file() and path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): _read(path) for path in found}


@router.get("/")
@router.head("/")
async def index(request: Request) -> Response:
    return await static_file(request, INDEX)


async def static_file(request: Request, path: str) -> Response:
    file = files().get(path)
    if file is None:
        raise Refused(404, f"Expected a file of the page, found no {path!r}: open /page/.")
    headers = {**POLICY, "ETag": file.etag}
    # A compressing proxy turns the tag into a weak one.
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.media_type)


def mount(app: FastAPI) -> None:
    """Serve the rest of the page below /page/static."""
    app.add_api_route("/page/static/{path:path}", static_file, methods=["GET", "HEAD"], include_in_schema=False)


def _read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
