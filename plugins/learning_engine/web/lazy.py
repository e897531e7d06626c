"""The ASGI app that Airflow mounts. It builds the real app at the first request. Called by plugin.

Every Airflow process executes plugin.py, but only the api-server serves requests. The others must not pay for the
imports.
"""

import threading
from typing import Any

from learning_engine.web.headers import with_default_headers


class LazyApp:
    """Forwards every request to `web.app`, which receives the app that it is mounted in."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    from learning_engine.web import app

                    self._app = app.build(scope["app"])
        await self._app(scope, receive, with_default_headers(send))
