"""A proxy in front of the model server, so that a test can kill a worker between a request and its answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from demo.ports import LOOPBACK

SECONDS = 120


class Proxy(ThreadingHTTPServer):
    """Forwards everything to the server at `port`, and holds back the answers to the path `held`."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__((LOOPBACK, 0), ForwardingHandler)
        self.behind = f"http://{LOOPBACK}:{port}"
        self.held: str | None = None
        self.answered, self.released = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @contextmanager
    def hold(self, path: str) -> Iterator[threading.Event]:
        """Hold the answers to `path`; yields an event that is set once the server has answered such a request."""
        self.answered.clear()
        self.released.clear()
        self.held = path
        try:
            yield self.answered
        finally:
            self.held = None
            self.released.set()


class ForwardingHandler(BaseHTTPRequestHandler):
    """Forwards one request."""

    server: Proxy

    def do_GET(self) -> None:
        self._forward(b"")

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _forward(self, body: bytes) -> None:
        kind = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        answer = requests.request(
            self.command, f"{self.server.behind}{self.path}", data=body, headers=kind, timeout=SECONDS
        )
        if self.path == self.server.held:
            self.server.answered.set()
            self.server.released.wait(SECONDS)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def handle(self) -> None:
        """Ignore a closed connection: a killed worker reads no answer."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""
