"""Single flight: concurrent callers with the same question share one answer. Called by health and deployments."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from learning_engine.errors import StoreError
from learning_engine.web.problems import Refused

T = TypeVar("T")
logger = logging.getLogger("learning_engine")


class SingleFlight(Generic[T]):
    """At most one running call per event loop; callers that arrive meanwhile share its result."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}

    async def join(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the running call, or start `ask`. Cancelling a caller does not cancel the call."""
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None:
            task = self._tasks[loop] = loop.create_task(ask())
            task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: "asyncio.Task[T]") -> None:
        self._tasks.pop(task.get_loop(), None)
        # If every caller was cancelled, nobody retrieves the exception. Doing it here keeps asyncio from warning.
        if not task.cancelled():
            task.exception()


@dataclass(frozen=True)
class Known(Generic[T]):
    """An answer of the store with its age in seconds; 0 if it is fresh."""

    answer: T
    age: float


class LastKnown(Generic[T]):
    """A query to the store that falls back to its last answer if the store gives none within `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._flight: SingleFlight[T] = SingleFlight()
        self._last: tuple[T, float] | None = None

    async def ask(self, read: Callable[[], Coroutine[Any, Any, T]]) -> Known[T]:
        """Raises what `read` raises if the stored data is corrupt, or if there is no earlier answer to fall back to."""
        try:
            async with asyncio.timeout(self._patience if self._last else None):
                return Known(await self._flight.join(lambda: self._read(read)), 0)
        except (TimeoutError, StoreError, Refused):
            if self._last is None:
                raise
            answer, at = self._last
            return Known(answer, time.monotonic() - at)

    async def _read(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        began = time.monotonic()
        try:
            answer = await read()
        except StoreError as error:
            logger.warning("the store failed, the last known answer is used instead: %s", error)
            raise
        self._last = answer, began
        return answer
