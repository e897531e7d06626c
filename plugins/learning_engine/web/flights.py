"""Of many who ask for the same at once, one asks. Called by health and deployments."""

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


class Flight(Generic[T]):
    """One question in each event loop: whoever asks while it is being answered waits for the same answer."""

    def __init__(self) -> None:
        self._of: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}

    async def join(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to the question that is under way, or else to this one. Who gives up leaves it to the others."""
        loop = asyncio.get_running_loop()
        asked = self._of.get(loop)
        if asked is None:
            asked = self._of[loop] = loop.create_task(ask())
            asked.add_done_callback(self._landed)
        return await asyncio.shield(asked)

    def _landed(self, asked: "asyncio.Task[T]") -> None:
        self._of.pop(asked.get_loop(), None)
        # Where everybody has given up, nobody is left to be told of an error: it counts as told.
        if not asked.cancelled():
            asked.exception()


@dataclass(frozen=True)
class Known(Generic[T]):
    """An answer of the store, and how many seconds old it is; 0 where it was asked for just now."""

    answer: T
    age: float


class LastKnown(Generic[T]):
    """A question to the store, and its last answer, for when the store gives none within `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._flight: Flight[T] = Flight()
        self._last: tuple[T, float] | None = None

    async def ask(self, read: Callable[[], Coroutine[Any, Any, T]]) -> Known[T]:
        """Raises what `read` raises where what the store holds is damaged, and where it has not answered before."""
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
            logger.warning("the last known answer stands in for the store's: %s", error)
            raise
        self._last = answer, began
        return answer
