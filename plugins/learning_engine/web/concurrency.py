"""A concurrency limit for each event loop. Called by airflow_api, preflight and training."""

import asyncio
from weakref import WeakKeyDictionary


class ConcurrencyLimit:
    """`async with limit():` holds one slot. One semaphore per event loop, since tests run several loops."""

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def __call__(self) -> asyncio.Semaphore:
        return self._semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._max_concurrent))
