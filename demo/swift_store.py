"""A real S3 store on loopback: OpenStack Swift with its S3 interface, one disk, one replica, no memcached.

Runs in an environment of its own (`.swift-venv`, requirements-swift.txt), so it imports nothing of this repository:

    .swift-venv/bin/python demo/swift_store.py DIR [--port N]

prints one JSON line once it answers, then serves until SIGTERM or SIGINT. Its four servers end with it, however it
ends. What was stored in DIR is there again at the next start. Buckets are addressed by path.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from getpass import getuser
from pathlib import Path

ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
BACKENDS = ("account", "container", "object")
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
# PR_SET_PDEATHSIG: the kernel ends a server whose parent has died, even of SIGKILL.
SERVER = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(sys.argv[1], sys.argv[2], verbose=True))
"""


def claim_ports(port: int | None) -> dict[str, int]:
    """A free port for each server; the proxy's is `port` where one is given."""
    sockets = [socket.create_server(("127.0.0.1", wanted)) for wanted in (port or 0, 0, 0, 0)]
    numbers = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return dict(zip(("proxy", *BACKENDS), numbers, strict=True))


def configure(directory: Path, ports: dict[str, int]) -> Path:
    """Write the configuration and the rings; the data stay where they are."""
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


def wait_until_healthy(url: str, servers: dict[str, "subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for name, server in servers.items():
            if server.poll() is not None:
                raise SystemExit(f"Swift's {name} server ended at its start with {server.returncode}; see the log.")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"Swift did not answer at {url} within {START_SECONDS:.0f} s; see the log.")


def stop(servers: dict[str, "subprocess.Popen[bytes]"]) -> None:
    for server in servers.values():
        server.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers.values():
        try:
            server.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="OpenStack Swift as an S3 store on loopback")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, help="port of the S3 interface (default: a free one)")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    try:
        ports = claim_ports(arguments.port)
    except OSError as error:
        raise SystemExit(f"Port {arguments.port} is in use: {error}; stop what holds it, or take another.") from error
    # Both become SystemExit, so that the servers are stopped below.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    servers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        etc = configure(directory, ports)
        environment = {**os.environ, "SWIFT_CONF_DIR": str(etc)}
        with (directory / "swift.log").open("ab") as log:
            for name in ports:
                command = [sys.executable, "-c", SERVER, str(etc / f"{name}-server.conf"), f"{name}-server"]
                servers[name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
                )
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        wait_until_healthy(f"{endpoint}/healthcheck", servers)
        line = {"endpoint": endpoint, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "region": REGION}
        print(json.dumps({**line, "kind": "OpenStack Swift", "health": f"{endpoint}/healthcheck"}), flush=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(1)
        raise SystemExit("One of Swift's servers has ended; see the log.")
    finally:
        stop(servers)


if __name__ == "__main__":
    main()
