"""Servers with scripted responses: other vendors' formats, and failures that real servers show too rarely."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from learning_engine.config.sections import Serving
from learning_engine.serving.client import Replica

Answer = tuple[int, str]
Answers = dict[str, list[Answer | None]]
LIMITS = Serving(connect_timeout_seconds=2, request_timeout_seconds=2, load_timeout_seconds=0.2)


def listing(*names: str) -> Answer:
    """vLLM's response to /v1/models."""
    cards = [{"id": name, "object": "model", "owned_by": "vllm", "root": "/m", "parent": None} for name in names]
    return 200, json.dumps({"object": "list", "data": cards})


@contextmanager
def scripted_servers() -> Iterator[Callable[[Answers], Replica]]:
    """Starts servers that take their responses, by path, from lists; for None they never respond."""
    servers, release = [], threading.Event()

    def start(answers: Answers) -> Replica:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = answers[self.path].pop(0)
                if answer is None:
                    release.wait(30)
                    return
                self.send_response(answer[0])
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(answer[1].encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Write no access log."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return Replica(f"http://127.0.0.1:{server.server_port}", LIMITS)

    try:
        yield start
    finally:
        release.set()
        for server in servers:
            server.shutdown()
            server.server_close()
