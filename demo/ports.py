"""Find free ports on loopback, and check free disk space, before anything starts.

A free port may be taken before its server starts. A lock file therefore reserves it among the demos and tests of one
user, as long as the process that chose it lives.
"""

import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path

LOOPBACK = "127.0.0.1"
_locks: list[int] = []


class NoRoom(Exception):
    """The disk is too full for the demo."""


def free_port(preferred: int = 0, *, taken: set[int] | None = None) -> int:
    """`preferred`, or the next free port above it (0: any). The port is added to `taken`, whose ports are skipped."""
    taken = taken if taken is not None else set()
    for port in range(preferred, min(preferred + 200, 65_535)) if preferred else [0] * 200:
        found = None if port in taken else _bind(port)
        if found is not None and found not in taken and _lock(found):
            taken.add(found)
            return found
    wanted = f"a free port from {preferred} to {preferred + 199}" if preferred else "any free port"
    raise OSError(f"Expected {wanted} on {LOOPBACK}, found none: stop a server.")


def require_disk(directory: Path, *, gigabytes: float) -> None:
    """Raises NoRoom if the file system of `directory` has less than `gigabytes` free."""
    free = shutil.disk_usage(directory).free / 1e9
    if free < gigabytes:
        raise NoRoom(
            f"Expected {gigabytes:g} GB free below {directory}, found {free:.1f} GB: free some space and try again."
        )


def _bind(port: int) -> int | None:
    """The port if it can be bound now, else None. Sets address reuse as the servers do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return None
        bound: int = probe.getsockname()[1]
        return bound


def _lock(port: int) -> bool:
    """Reserve the port for this process; False if another process has it."""
    name = Path(tempfile.gettempdir()) / f"learning-engine-{os.getuid()}-port-{port}.lock"
    handle = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _locks.append(handle)
    return True
