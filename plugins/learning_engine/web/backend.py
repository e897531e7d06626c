"""The settings and resources of this api-server, shared by all requests. Called by the routers.

Made anew every minute, so that a connection that is changed in Airflow counts without a restart.
"""

import threading
import time
from typing import Annotated

from fastapi import Depends, Request

from learning_engine import config
from learning_engine.airflow.connections import connect
from learning_engine.steps.resources import Resources

SECONDS = 60


class Backend:
    """Safe to share among threads."""

    def __init__(self) -> None:
        self.settings = config.load()
        self._lock = threading.Lock()
        self._made_at = float("-inf")
        self._resources: Resources | None = None

    def resources(self) -> Resources:
        """Opens connections: not for the event loop."""
        with self._lock:
            if self._resources is None or time.monotonic() - self._made_at > SECONDS:
                fresh = connect(self.settings)
                # The properties are cached at their first use, which must not happen in two threads at once.
                fresh.registry, fresh.ledger  # noqa: B018
                self._resources, self._made_at = fresh, time.monotonic()
            return self._resources

    def dag_id(self, name: str) -> str:
        """Of weekly, deploy, fisher."""
        return f"{self.settings.dag.id_prefix}_{name}"


def backend_of(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


def resources_of(backend: Annotated[Backend, Depends(backend_of)]) -> Resources:
    """A dependency; FastAPI runs it in a thread."""
    return backend.resources()


OpenBackend = Annotated[Backend, Depends(backend_of)]
OpenResources = Annotated[Resources, Depends(resources_of)]
