"""The settings and resources of this api-server, shared by all requests. Called by the routers.

Made anew every minute, so that a connection that is changed in Airflow counts without a restart.
"""

import threading
import time
from typing import Annotated

from fastapi import Depends, Request

from learning_engine import config
from learning_engine.airflow.connections import connect
from learning_engine.config import Settings
from learning_engine.steps.resources import Resources
from learning_engine.web.threads import STORE

SECONDS = 60
# Of store time-outs and tries: a task can wait for a store that comes back, whoever asks here cannot.
LONGEST = {"connect_timeout_seconds": 2.0, "read_timeout_seconds": 5.0, "attempts": 2}


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
                fresh = connect(_hasty(self.settings))
                # The properties are cached at their first use, which must not happen in two threads at once.
                fresh.registry, fresh.ledger  # noqa: B018
                self._resources, self._made_at = fresh, time.monotonic()
            return self._resources

    def dag_id(self, name: str) -> str:
        """Of weekly, deploy, fisher."""
        return f"{self.settings.dag.id_prefix}_{name}"


def _hasty(settings: Settings) -> Settings:
    store = settings.store
    shorter = {name: min(getattr(store, name), longest) for name, longest in LONGEST.items()}
    return settings.model_copy(update={"store": store.model_copy(update=shorter)})


async def backend_of(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


async def resources_of(backend: Annotated[Backend, Depends(backend_of)]) -> Resources:
    return await STORE.run(backend.resources)


OpenBackend = Annotated[Backend, Depends(backend_of)]
OpenResources = Annotated[Resources, Depends(resources_of)]
