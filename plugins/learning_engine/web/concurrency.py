"""So many at a time in one event loop, the others wait. Called by airflow, preflight and training."""

import asyncio
from weakref import WeakKeyDictionary


class Turns:
    """`async with turns():` holds one of the places. A semaphore belongs to one loop, and tests run several."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def __call__(self) -> asyncio.Semaphore:
        return self._of.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._at_once))
