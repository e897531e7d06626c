"""The ASGI app that Airflow mounts: it builds the real one at the first request. Called by plugin.

Every process of Airflow executes plugin.py, and only the api-server serves: the others must not pay for its imports.
"""

import threading
from typing import Any

from learning_engine.web.headers import guarded


class LazyApp:
    """Hands every request on to `web.app`, and tells it which app it is mounted in."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    from learning_engine.web import app

                    self._app = app.build(scope["app"])
        await self._app(scope, receive, guarded(send))
