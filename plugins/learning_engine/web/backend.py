"""The settings and resources of this api-server, shared by all requests. Called by the routers.

The resources are recreated every minute, so that a connection changed in Airflow takes effect without a restart.
"""

import threading
import time
from typing import Annotated

from fastapi import Depends, Request

from learning_engine import config
from learning_engine.airflow.connections import connect
from learning_engine.config import Settings
from learning_engine.steps.resources import Resources
from learning_engine.web.store_threads import STORE_THREADS

MAX_AGE_SECONDS = 60
# Upper limits for the store's time-outs and attempts: a task can wait for the store to recover, an API caller cannot.
STORE_LIMITS = {"connect_timeout_seconds": 2.0, "read_timeout_seconds": 5.0, "attempts": 2}


class Backend:
    """Settings and cached resources. Thread-safe."""

    def __init__(self) -> None:
        self.settings = config.load()
        self._lock = threading.Lock()
        self._made_at = float("-inf")
        self._resources: Resources | None = None

    def resources(self) -> Resources:
        """The current resources. Opens connections, so never call it in the event loop."""
        with self._lock:
            if self._resources is None or time.monotonic() - self._made_at > MAX_AGE_SECONDS:
                fresh = connect(_with_short_timeouts(self.settings))
                # These properties are cached at first use, which is not thread-safe.
                fresh.registry, fresh.ledger  # noqa: B018
                self._resources, self._made_at = fresh, time.monotonic()
            return self._resources

    def dag_id(self, name: str) -> str:
        """The DAG id of `weekly`, `deploy` or `fisher`."""
        return f"{self.settings.dag.id_prefix}_{name}"


def _with_short_timeouts(settings: Settings) -> Settings:
    store = settings.store
    shorter = {name: min(getattr(store, name), longest) for name, longest in STORE_LIMITS.items()}
    return settings.model_copy(update={"store": store.model_copy(update=shorter)})


async def backend_of(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


async def resources_of(backend: Annotated[Backend, Depends(backend_of)]) -> Resources:
    return await STORE_THREADS.run(backend.resources)


OpenBackend = Annotated[Backend, Depends(backend_of)]
OpenResources = Annotated[Resources, Depends(resources_of)]
