"""A real S3 store on loopback: OpenStack Swift with its S3 interface, one disk, one replica, no memcached.

Runs in a separate environment (`.swift-venv`, requirements-swift.txt), so it imports nothing from this repository:

    .swift-venv/bin/python demo/swift_store.py DIR [--port N]

prints one JSON line once it answers, then serves until SIGTERM or SIGINT. Its four servers end with it, however it
ends. DIR keeps the stored objects for the next start. Buckets use path-style addressing.
"""

import argparse
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import ForkProcess
from pathlib import Path

ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
BACKENDS = ("account", "container", "object")
SHARED_MODULES = ("swift.common.wsgi", "swift.proxy.server", "swift.obj.server", "swift.container.server")
START_SECONDS = 60.0
STOP_SECONDS = 10.0

SWIFT = """[swift-hash]
swift_hash_path_prefix = learning
swift_hash_path_suffix = engine
[storage-policy:0]
name = gold
default = yes
"""
COMMON = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
log_level = WARNING
"""
BACKEND = """[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
PROXY = f"""[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = {REGION}
dns_compliant_bucket_names = yes
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {SECRET_KEY} .admin
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name}\n"
    for name in ("catch_errors", "gatekeeper", "healthcheck", "copy", "slo", "dlo", "symlink")
)
PR_SET_PDEATHSIG = 1


def claim_ports(port: int | None) -> dict[str, int]:
    """A free port for each server; the proxy's is `port` if given."""
    sockets = [socket.create_server(("127.0.0.1", wanted)) for wanted in (port or 0, 0, 0, 0)]
    numbers = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return dict(zip(("proxy", *BACKENDS), numbers, strict=True))


def configure(directory: Path, ports: dict[str, int]) -> Path:
    """Write the configuration and the rings; existing data is kept."""
    from swift.common.ring import RingBuilder  # type: ignore[import-not-found]

    etc, devices = directory / "etc", directory / "node"
    etc.mkdir(parents=True, exist_ok=True)
    (devices / "disk").mkdir(parents=True, exist_ok=True)
    (etc / "swift.conf").write_text(SWIFT)
    for name, port in ports.items():
        common = COMMON.format(port=port, user=getuser(), etc=etc, devices=devices)
        (etc / f"{name}-server.conf").write_text(common + (PROXY if name == "proxy" else BACKEND.format(name=name)))
    for name in BACKENDS:
        ring = RingBuilder(6, 1, 0)
        ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": ports[name], "device": "disk", "weight": 1.0})
        ring.rebalance()
        ring.get_ring().save(str(etc / f"{name}.ring.gz"))
    return etc


def serve(name: str, etc: Path) -> None:
    """Run one server in this process, which the kernel ends when its parent dies, even from SIGKILL."""
    from swift.common.wsgi import run_wsgi  # type: ignore[import-not-found]

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    sys.exit(run_wsgi(str(etc / f"{name}-server.conf"), f"{name}-server", verbose=True))


def start(ports: dict[str, int], etc: Path, log: Path) -> dict[str, ForkProcess]:
    # Imported once and inherited by all four: this takes half the time and memory of four interpreters.
    for name in SHARED_MODULES:
        importlib.import_module(name)
    servers = {name: ForkProcess(target=serve, args=(name, etc), name=name) for name in ports}
    with log.open("ab") as file, redirected(file.fileno()):
        for server in servers.values():
            server.start()
    return servers


@contextmanager
def redirected(target: int) -> Iterator[None]:
    """Redirect standard output and error to the file descriptor `target`, also of processes started meanwhile."""
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in saved:
        os.dup2(target, number)
    try:
        yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


def wait_until_healthy(url: str, servers: dict[str, ForkProcess]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for name, server in servers.items():
            if not server.is_alive():
                raise SystemExit(f"Swift's {name} server ended at its start with {server.exitcode}; see the log.")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"Swift did not answer at {url} within {START_SECONDS:.0f} s; see the log.")


def stop(servers: dict[str, ForkProcess]) -> None:
    for server in servers.values():
        server.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers.values():
        server.join(max(0.0, deadline - time.monotonic()))
        if server.is_alive():
            server.kill()
            server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="OpenStack Swift as an S3 store on loopback")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, help="port of the S3 interface (default: a free one)")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    try:
        ports = claim_ports(arguments.port)
    except OSError as error:
        raise SystemExit(
            f"Port {arguments.port} is in use: {error}; stop the process that uses it, or choose another port."
        ) from error
    # Both signals raise SystemExit, so that the servers are stopped below.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    servers: dict[str, ForkProcess] = {}
    try:
        etc = configure(directory, ports)
        os.environ["SWIFT_CONF_DIR"] = str(etc)
        servers |= start(ports, etc, directory / "swift.log")
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        wait_until_healthy(f"{endpoint}/healthcheck", servers)
        line = {"endpoint": endpoint, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "region": REGION}
        print(json.dumps({**line, "kind": "OpenStack Swift", "health": f"{endpoint}/healthcheck"}), flush=True)
        wait_for_any([server.sentinel for server in servers.values()])
        raise SystemExit("One of Swift's servers has ended; see the log.")
    finally:
        stop(servers)


if __name__ == "__main__":
    main()
