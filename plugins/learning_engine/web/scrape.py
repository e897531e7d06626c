"""`GET /metrics`, for Prometheus: the metrics of the bucket and the latest task durations."""

from fastapi import Depends, Response

from learning_engine.web import durations, metrics
from learning_engine.web.auth import reader_or_token
from learning_engine.web.backend import OpenBackend, OpenResources
from learning_engine.web.problems import responses
from learning_engine.web.store_threads import Router

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = Router(tags=["metrics"], responses=responses(401, 503))


@router.get(
    "/metrics",
    dependencies=[Depends(reader_or_token)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def scrape(resources: OpenResources, backend: OpenBackend) -> Response:
    """All metrics in Prometheus' text format."""
    body = metrics.render(resources, durations.newest(backend.dag_id("weekly")))
    return Response(body, media_type=MEDIA_TYPE)
