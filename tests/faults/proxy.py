"""An HTTP proxy on loopback that makes the store behind it fail on demand.

    with proxy.under(answers(503, "SlowDown"), method="PUT", key="adapter.tar.gz", times=1):
        ...

A fault is a function of one exchange and ends with the block. Without a fault, the proxy forwards everything.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from demo.ports import LOOPBACK, free_port
from tests.faults.exchange import PATIENCE, Answer, Exchange

__all__ = ["PATIENCE", "Exchange"]

Fault = Callable[[Exchange], None]
Case = Callable[[str], str]


def passes(exchange: Exchange) -> None:
    exchange.reply(exchange.forward())


def silent(exchange: Exchange) -> None:
    """Accepts the request and never responds."""
    exchange.server.proxy.lifted.wait(PATIENCE)
    exchange.drop()


def slow(seconds: float) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.server.proxy.lifted.wait(seconds)
        passes(exchange)

    return fault


def answers(status: int, code: str) -> Fault:
    """Responds with an S3 error without forwarding the request."""

    def fault(exchange: Exchange) -> None:
        exchange.body()
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected by a test</Message></Error>"
        body = b"" if exchange.command == "HEAD" else text.encode()
        exchange.reply(Answer(status, [("Content-Type", "application/xml")], body))

    return fault


def cut_upload(after: int) -> Fault:
    """Reads `after` bytes of the body, then resets the connection."""

    def fault(exchange: Exchange) -> None:
        exchange.rfile.read(min(after, int(exchange.headers.get("Content-Length", 0))))
        exchange.drop()

    return fault


def cut_answer(after: int) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.reply(exchange.forward(), cut_after=after)

    return fault


def renames_metadata(case: Case) -> Fault:
    """Changes the case of metadata names in the response, as reverse proxies that normalise headers do."""
    ours = "x-amz-meta-"

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        headers = [(case(name) if name.lower().startswith(ours) else name, value) for name, value in answer.headers]
        exchange.reply(replace(answer, headers=headers))

    return fault


def loses_answer(exchange: Exchange) -> None:
    """The store executes the request, but the response is lost."""
    exchange.forward()
    exchange.drop()


@dataclass
class Rule:
    fault: Fault
    method: re.Pattern[str]
    key: re.Pattern[str]
    times: int | None
    met: int = 0

    def fits(self, exchange: Exchange) -> bool:
        if self.times is not None and self.met >= self.times:
            return False
        return bool(self.method.fullmatch(exchange.command) and self.key.search(exchange.key))


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: "Proxy") -> None:
        super().__init__((LOOPBACK, proxy.port), Exchange)
        self.proxy, self.store = proxy, proxy.store
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a dropped connection


@dataclass
class Proxy:
    """`store` is host:port of the real store."""

    store: str
    port: int = field(default_factory=free_port)
    rules: list[Rule] = field(default_factory=list)
    # Set when the block of a fault ends: releases the requests that it holds.
    lifted: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def choose(self, exchange: Exchange) -> Fault:
        with self.lock:
            for rule in self.rules:
                if rule.fits(exchange):
                    rule.met += 1
                    return rule.fault
        return passes

    @contextmanager
    def under(self, fault: Fault, *, method: str = ".*", key: str = "", times: int | None = None) -> Iterator[Rule]:
        """Apply the fault to each request whose method matches `method` and whose key contains `key` (both patterns);
        with `times`, only to that many."""
        rule = Rule(fault, re.compile(method), re.compile(key), times)
        self.lifted.clear()
        self.rules.append(rule)
        try:
            yield rule
        finally:
            self.rules.remove(rule)
            self.lifted.set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nothing listens here while the block runs."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        self._listener = Listener(self)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def _stop(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        for connection in list(self._listener.open):
            with suppress(OSError):  # the client has closed it already
                connection.shutdown(socket.SHUT_RDWR)


def front(endpoint: str) -> Proxy:
    """A proxy, not yet listening, in front of the store at `endpoint`."""
    return Proxy(urlsplit(endpoint).netloc)
