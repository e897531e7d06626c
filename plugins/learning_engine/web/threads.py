"""Threads of our own for whatever asks the store, so that a store that is silent holds none that Airflow needs.

Airflow's plain routes, the task API's among them, share the 40 threads of its event loop, and so does every plain route
of FastAPI. Called by the routers.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.routing import APIRoute

from learning_engine.web.problems import Refused

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """So many calls at a time in each event loop. Of the others so many wait, each for so many seconds at most."""

    def __init__(self, at_once: int, *, waiting: int, seconds: float) -> None:
        self._at_once, self._waiting, self._seconds = at_once, waiting, seconds
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, CapacityLimiter] = WeakKeyDictionary()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns. Raises Refused with 503 where no thread gets free."""
        limiter = self._of.setdefault(asyncio.get_running_loop(), CapacityLimiter(self._at_once))
        place = object()
        await self._acquire(limiter, place)
        try:
            # This one is never waited for: the place is taken.
            return await to_thread.run_sync(functools.partial(call, *args, **kwargs), limiter=CapacityLimiter(1))
        finally:
            limiter.release_on_behalf_of(place)

    async def iterate(self, items: Iterator[T]) -> AsyncIterator[T]:
        """`items`, each read by a thread; none is held between two of them."""
        end = object()
        while (item := await self.run(next, items, end)) is not end:
            yield item  # type: ignore[misc]

    async def _acquire(self, limiter: CapacityLimiter, place: object) -> None:
        if not limiter.available_tokens and limiter.statistics().tasks_waiting >= self._waiting:
            raise self._busy(f"{self._waiting} requests waiting for one")
        try:
            async with asyncio.timeout(self._seconds):
                await limiter.acquire_on_behalf_of(place)
        except TimeoutError as error:
            raise self._busy(f"none for {self._seconds:g} s") from error

    def _busy(self, found: str) -> Refused:
        return Refused(
            503,
            f"Expected one of {self._at_once} threads that ask the object store to be free, found {found}: "
            "see GET /health whether the store answers, and try again.",
        )


STORE = Threads(16, waiting=1000, seconds=30)


class _Route(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if inspect.iscoroutinefunction(endpoint) else _threaded(endpoint), **options)


class Router(APIRouter):
    """Whose plain functions run in the threads of STORE."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=_Route, **options)


def _threaded(endpoint: Callable[P, T]) -> Callable[P, Any]:
    @functools.wraps(endpoint)
    async def threaded(*args: P.args, **kwargs: P.kwargs) -> T:
        return await STORE.run(endpoint, *args, **kwargs)

    return threaded
