"""A TCP proxy on loopback to a database. After some bytes of the response it disconnects, pauses or calls back."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from demo.ports import LOOPBACK

CHUNK = 1 << 14
PATIENCE = 60.0


@dataclass
class TcpProxy:
    """A proxy to the server at `port`. Once `after` bytes of a response have arrived, it calls `then` with itself; with
    `then` None it forwards everything."""

    port: int
    after: int = 0
    then: "Callable[[TcpProxy], None] | None" = None
    # Set when the block of `listening` ends.
    over: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        while not self.over.is_set():
            with suppress(OSError):
                client, _ = listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        received = 0
        with client, socket.socket() as server, suppress(OSError, Broken):
            # A small buffer, so that the server is still sending when `then` is called.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
            server.connect((LOOPBACK, self.port))
            while ready := select.select([client, server], [], [], PATIENCE)[0]:
                for end in ready:
                    if not (data := end.recv(CHUNK)):
                        return
                    received += len(data) if end is server else 0
                    if self.then and received >= self.after and not self.reached.is_set():
                        self.reached.set()
                        self.then(self)
                    (client if end is server else server).sendall(data)


class Broken(Exception):
    """Ends the connection."""


def breaks(_: TcpProxy) -> None:
    raise Broken


def waits(proxy: TcpProxy) -> None:
    """Pause until the proxy is released."""
    proxy.released.wait(PATIENCE)


@contextmanager
def listening(
    port: int, after: int = 0, then: Callable[[TcpProxy], None] | None = None
) -> Iterator[tuple[TcpProxy, int]]:
    """Yield a proxy and the port on which it listens."""
    proxy = TcpProxy(port, after, then)
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(0.1)
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        try:
            yield proxy, listener.getsockname()[1]
        finally:
            proxy.over.set()
            proxy.released.set()
