"""Free ports on loopback, and free space on disk, before anything starts.

A port that is free now may not be when its server starts. Among demos and tests of one user a lock keeps it, for as
long as the process that chose it lives.
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
    """`preferred`, else the next free port above it (0: any). `taken` names ports promised to others; it grows."""
    taken = taken if taken is not None else set()
    for port in range(preferred, min(preferred + 200, 65_535)) if preferred else [0] * 200:
        found = None if port in taken else _bind(port)
        if found is not None and found not in taken and _lock(found):
            taken.add(found)
            return found
    raise OSError(
        f"Expected a free port from {preferred} to {preferred + 199} on {LOOPBACK}, found none: end a server."
    )


def require_disk(directory: Path, *, gigabytes: float) -> None:
    """Raises NoRoom where the file system of `directory` has less free than `gigabytes`."""
    free = shutil.disk_usage(directory).free / 1e9
    if free < gigabytes:
        raise NoRoom(f"Expected {gigabytes:g} GB free below {directory}, found {free:.1f} GB: make room and try again.")


def _bind(port: int) -> int | None:
    """The port that could be bound just now, or None. Address reuse as the servers themselves set it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return None
        bound: int = probe.getsockname()[1]
        return bound


def _lock(port: int) -> bool:
    """Promise the port to this process; False where another one has it."""
    name = Path(tempfile.gettempdir()) / f"learning-engine-{os.getuid()}-port-{port}.lock"
    handle = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _locks.append(handle)
    return True
