"""A concurrency limit for each event loop. Called by airflow_api, preflight and training."""

import asyncio
from weakref import WeakKeyDictionary


class ConcurrencyLimit:
    """`async with limit():` holds one slot. One semaphore per event loop, since tests run several loops."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def __call__(self) -> asyncio.Semaphore:
        return self._of.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._at_once))
