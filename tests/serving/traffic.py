"""Clients that stream from a model server, check the answers, and report figures."""

import itertools
import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import requests

from learning_engine.records.probe import Probe
from tests.serving import contract

TIMEOUT = 30.0
# The concurrency limit, as in a gateway: a burst queues here and not in the server.
CONCURRENCY = 8


@dataclass(frozen=True)
class Reply:
    """`fault` is empty if the answer was right. `latency`: seconds since the request was due; `took`: since sent."""

    model: str
    latency: float
    took: float
    fault: str


class Traffic:
    """Sends requests while the block runs; its end waits for those in flight.

    Without `rate`, each of the `clients` sends its next request once the previous one is answered (closed loop).
    With `rate`, that many requests per second come due at random times, however slow the server is (open loop), and
    latency counts from the due time. `choose` returns the model name and the expected probe.
    """

    def __init__(
        self,
        url: str,
        choose: Callable[[], tuple[str, Probe]],
        *,
        clients: int = CONCURRENCY,
        rate: float | None = None,
    ) -> None:
        self.url, self.choose, self.rate = url, choose, rate
        self.replies: list[Reply] = []
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._gaps = random.Random(0)  # noqa: S311
        self._due = 0.0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        self._due = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)
            assert not thread.is_alive(), "a client is still waiting for its answer"

    def wait_for(self, model: str) -> None:
        """Wait until `model` has answered a request."""
        deadline = time.monotonic() + 2 * TIMEOUT
        while not any(reply.model == model for reply in self.replies):
            assert time.monotonic() < deadline, f"no request to {model} was answered"
            time.sleep(0.05)

    def faults(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.fault]

    def figures(self) -> dict[str, Any]:
        latencies = sorted(reply.latency for reply in self.replies)
        return {
            "requests": len(latencies),
            "wrong_or_failed": len(self.faults()),
            "median_seconds": round(statistics.median(latencies), 3),
            "p99_seconds": round(latencies[int(0.99 * (len(latencies) - 1))], 3),
            "longest_seconds": round(max(reply.took for reply in self.replies), 3),
        }

    def _work(self) -> None:
        while (due := self._next()) is not None:
            sent = time.monotonic()
            model, fault = self._ask()
            now = time.monotonic()
            self.replies.append(Reply(model, now - (due or sent), now - sent, fault))

    def _next(self) -> float | None:
        """Wait for the next request's due time and return it; 0 in a closed loop, None at the end."""
        if self.rate is None:
            return None if self._ending.is_set() else 0.0
        with self._lock:
            self._due += self._gaps.expovariate(self.rate)
            due = self._due
        return None if self._ending.wait(due - time.monotonic()) else due

    def _ask(self) -> tuple[str, str]:
        model = "?"
        try:
            model, probe = self.choose()
            answer = stream(self.url, model, probe)
        except Exception as error:  # noqa: BLE001  any exception counts as a failed request
            return model, f"{type(error).__name__}: {error}"
        return model, "" if answer.strip() == probe.text.strip() else f"expected {probe.text!r}, found {answer!r}"


def stream(url: str, model: str, probe: Probe) -> str:
    """The complete streamed answer. Raises RuntimeError if the request is refused or the stream ends early."""
    body = {"model": model, "messages": probe.messages, "max_tokens": len(probe.tokens), "temperature": 0}
    text = ""
    with requests.post(url + contract.CHAT, json={**body, "stream": True}, stream=True, timeout=TIMEOUT) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{response.status_code}: {response.text}")
        for line in filter(None, response.iter_lines(chunk_size=1)):
            if line == b"data: [DONE]":
                return text
            text += json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"].get("content") or ""
    raise RuntimeError(f"the stream ended early, after {text!r}")


@dataclass(frozen=True)
class Capacity:
    """Requests per second, and the seconds of the longest request."""

    rate: float
    longest: float


def capacity(url: str, choose: Callable[[], tuple[str, Probe]], *, clients: int = 3, seconds: float = 5) -> Capacity:
    """The server's capacity with `clients` in a closed loop. Asserts that every answer is right."""
    with Traffic(url, choose, clients=clients) as traffic:
        time.sleep(seconds)
        answered = len(traffic.replies)
    assert not traffic.faults(), traffic.faults()[:3]
    return Capacity(answered / seconds, max(reply.took for reply in traffic.replies))


def in_turn(*questions: tuple[str, Probe]) -> Callable[[], tuple[str, Probe]]:
    """Cycle through the questions; safe to share among threads."""
    turns, lock = itertools.cycle(questions), threading.Lock()

    def choose() -> tuple[str, Probe]:
        with lock:
            return next(turns)

    return choose
