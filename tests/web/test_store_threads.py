"""The thread pool for the store: limited concurrency, limited queue, limited waiting time."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from learning_engine.web.problems import Refused
from learning_engine.web.store_threads import ThreadPool


async def while_busy(threads: ThreadPool, then: Callable[[], Any]) -> Any:
    """The result of `then` while the only thread is busy."""
    held, free = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(held.set)
        assert free.wait(10)

    holder = asyncio.create_task(threads.run(hold))
    await held.wait()
    try:
        return await then()
    finally:
        free.set()
        await holder


def test_waiting_too_long_for_a_thread_is_refused():
    threads = ThreadPool(1, waiting=9, seconds=0.05)
    with pytest.raises(Refused, match=r"found none for 0\.05 s: check in GET /health") as refused:
        asyncio.run(while_busy(threads, lambda: threads.run(print)))
    assert refused.value.status == 503


def test_a_full_queue_refuses_further_calls():
    threads = ThreadPool(1, waiting=1, seconds=10)

    async def two() -> list[Any]:
        first = asyncio.create_task(threads.run(str, 1))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="found 1 requests waiting"):
            await threads.run(str, 2)
        return [first]

    async def both() -> str:
        (first,) = await while_busy(threads, two)
        return str(await first)

    assert asyncio.run(both()) == "1"


def test_a_thread_is_free_again_after_a_failed_call():
    threads = ThreadPool(1, waiting=0, seconds=10)

    async def one_after_the_other() -> str:
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.run(int, "x")
        return await threads.run(str, 2)

    assert asyncio.run(one_after_the_other()) == "2"


def test_iterate_yields_all_items_in_order():
    async def read() -> list[int]:
        return [item async for item in ThreadPool(1, waiting=0, seconds=1).iterate(iter(range(3)))]

    assert asyncio.run(read()) == [0, 1, 2]
