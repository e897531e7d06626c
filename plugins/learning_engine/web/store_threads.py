"""A separate thread pool for requests to the store, so that an unresponsive store blocks no thread that Airflow needs.

Airflow's synchronous routes, including the task API, share the 40 threads of its event loop. FastAPI would run our
synchronous routes in the same threads. Called by the routers.
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


class ThreadPool:
    """Runs at most `max_concurrent` calls per event loop. At most `waiting` others queue, for at most `seconds`."""

    def __init__(self, max_concurrent: int, *, waiting: int, seconds: float) -> None:
        self._max_concurrent, self._waiting, self._seconds = max_concurrent, waiting, seconds
        self._limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, CapacityLimiter] = WeakKeyDictionary()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of `call`. Raises Refused with 503 if no thread becomes free."""
        limiter = self._limiters.setdefault(asyncio.get_running_loop(), CapacityLimiter(self._max_concurrent))
        holder = object()
        await self._acquire(limiter, holder)
        try:
            # anyio's own limiter never blocks here, since the slot is already acquired.
            return await to_thread.run_sync(functools.partial(call, *args, **kwargs), limiter=CapacityLimiter(1))
        finally:
            limiter.release_on_behalf_of(holder)

    async def iterate(self, items: Iterator[T]) -> AsyncIterator[T]:
        """Yield `items`, reading each in a thread. No thread is held between two items."""
        sentinel = object()
        while (item := await self.run(next, items, sentinel)) is not sentinel:
            yield item  # type: ignore[misc]

    async def _acquire(self, limiter: CapacityLimiter, holder: object) -> None:
        if not limiter.available_tokens and limiter.statistics().tasks_waiting >= self._waiting:
            raise self._busy(f"{self._waiting} requests waiting for one")
        try:
            async with asyncio.timeout(self._seconds):
                await limiter.acquire_on_behalf_of(holder)
        except TimeoutError as error:
            raise self._busy(f"none for {self._seconds:g} s") from error

    def _busy(self, found: str) -> Refused:
        return Refused(
            503,
            f"Expected a free thread among the {self._max_concurrent} for the object store, found {found}: "
            "check in GET /health that the store answers, then try again.",
        )


STORE_THREADS = ThreadPool(16, waiting=1000, seconds=30)


class _Route(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if inspect.iscoroutinefunction(endpoint) else _threaded(endpoint), **options)


class Router(APIRouter):
    """A router that runs synchronous endpoints in STORE_THREADS."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=_Route, **options)


def _threaded(endpoint: Callable[P, T]) -> Callable[P, Any]:
    @functools.wraps(endpoint)
    async def threaded(*args: P.args, **kwargs: P.kwargs) -> T:
        return await STORE_THREADS.run(endpoint, *args, **kwargs)

    return threaded
