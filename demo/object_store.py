"""The S3 store of demo and tests: OpenStack Swift if it runs here, otherwise moto's server, reported as a mock.

As a separate process it prints one JSON line (the fields of `ObjectStore`) and serves until SIGTERM:

    python -m demo.object_store DIR [--port N]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWIFT_PYTHON = ROOT / ".swift-venv" / "bin" / "python"
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class ObjectStore:
    """A running store with path-style addressing. `health` is a URL that answers 200 while it serves."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    kind: str
    health: str


def why_not_swift(directory: Path, python: Path = SWIFT_PYTHON) -> str | None:
    """Why Swift cannot keep its objects in `directory` with this Python; None if it can."""
    if sys.platform != "linux":
        return "Swift runs on Linux only"
    if not python.exists():
        return f"{python} is missing: run `make install`"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        os.setxattr(directory, "user.learning_engine", b"1")
    except OSError as error:
        return f"the file system of {directory} has no extended attributes: {error.strerror}"
    imported = subprocess.run([python, "-c", "import swift, pyeclib"], capture_output=True, text=True)
    return f"{python} cannot import Swift: {imported.stderr.strip()[-200:]}" if imported.returncode else None


def command(directory: Path, *, port: int | None = None) -> list[str]:
    """The command that serves a store from `directory`: Swift's if it runs here, otherwise moto's."""
    arguments = [str(directory.resolve()), *(["--port", str(port)] if port else [])]
    reason = why_not_swift(directory)
    if reason is None:
        return [str(SWIFT_PYTHON), str(Path(__file__).with_name("swift_store.py")), *arguments]
    print(f"Swift cannot run here ({reason}): using moto, a mock.", file=sys.stderr)
    return [sys.executable, "-m", "demo.object_store", "--moto", *arguments]


@contextmanager
def start(directory: Path, *, port: int | None = None, moto: bool = False) -> Iterator[ObjectStore]:
    """Run a store in a session of its own during the block. Raises RuntimeError if it does not start."""
    arguments = ["--port", str(port)] if port else []
    line = [sys.executable, "-m", "demo.object_store", "--moto", str(directory), *arguments]
    if not moto:
        line = command(directory, port=port)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "store.log").open("ab") as log:
        process = subprocess.Popen(
            line,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        answer = process.stdout.readline() if process.stdout else ""
        if not answer:
            raise RuntimeError(f"The object store ended at its start; see {directory / 'store.log'}")
        yield ObjectStore(**json.loads(answer))
    finally:
        stop(process)


def stop(process: "subprocess.Popen[str]") -> None:
    """End the store's process group, first with SIGTERM, then with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def serve_moto(port: int | None) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port or 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    store = ObjectStore(endpoint, "testing", "testing", "us-east-1", "moto (mock)", f"{endpoint}/moto-api/data.json")
    print(json.dumps(asdict(store)), flush=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="An S3 store on loopback")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, help="port of the S3 interface (default: a free one)")
    parser.add_argument("--moto", action="store_true", help="use the mock, even if Swift can run")
    arguments = parser.parse_args()
    if arguments.moto:
        serve_moto(arguments.port)
        return
    line = command(arguments.directory, port=arguments.port)
    os.execv(line[0], line)  # noqa: S606


if __name__ == "__main__":
    main()
