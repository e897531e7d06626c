"""Room on a worker's disk, asked for before the work that would fill it: a full disk costs the hours before it.

Called by the train step before training, and by deploy before it writes onto the model server's disk.
"""

import shutil
from pathlib import Path

from learning_engine.errors import NoRoom

MIB = 1024**2


def require(directory: Path, needed: int, *, what: str) -> None:
    """Raise NoRoom where the disk of `directory`, which need not exist yet, has fewer than `needed` bytes free."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NoRoom(
            f"Expected {_mib(needed)} free in {directory} for {what}, found {_mib(free)}: free some, or move it to a "
            "larger disk (TMPDIR is where a worker's steps write)."
        )


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
