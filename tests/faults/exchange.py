"""One request through the proxy, and the ways to answer it."""

import http.client
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

# The time limit, in seconds, of a silent or held exchange, so that no test waits forever.
PATIENCE = 60.0
HOP_BY_HOP = frozenset({"connection", "keep-alive", "expect", "transfer-encoding"})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request; a fault decides how it is answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # The proxy's Listener.
    server: Any

    @property
    def key(self) -> str:
        """The request's bucket and key, or the bucket and query."""
        return unquote(self.path)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def forward(self, *, without: str = "") -> Answer:
        """Forward the request, without the header `without`, and return the store's response."""
        return self._ask(self.command, self.body(), HOP_BY_HOP | {without.lower()})

    def exists(self) -> bool:
        """Whether the store has an object under the request's key."""
        return self._ask("HEAD", b"", HOP_BY_HOP | {"if-none-match", "content-length"}).status == 200

    def _ask(self, method: str, data: bytes, left_out: frozenset[str]) -> Answer:
        store = http.client.HTTPConnection(self.server.store, timeout=PATIENCE)
        try:
            store.putrequest(method, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in left_out:
                    store.putheader(name, value)
            store.endheaders(data)
            found = store.getresponse()
            return Answer(found.status, found.getheaders(), found.read())
        finally:
            store.close()

    def reply(self, answer: Answer, *, cut_after: int | None = None) -> None:
        """Send `answer`; if `cut_after` is given, close the connection after that many bytes of a longer body."""
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in answer.headers):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:cut_after])
        if cut_after is not None and len(answer.body) > cut_after:
            self.wfile.flush()
            self.drop()

    def drop(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _exchange(self) -> None:
        try:
            self.server.proxy.choose(self)(self)
        except (OSError, ValueError, http.client.HTTPException):
            self.close_connection = True  # the client has disconnected, or the proxy is stopping

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _exchange

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # dropped
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass
