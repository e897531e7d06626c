"""Check the free disk space before long work, because a disk that fills up in the middle wastes hours.

Called before training, and before an adapter is written to the model server's disk.
"""

import shutil
from pathlib import Path

from learning_engine.errors import NoRoom

MIB = 1024**2


def require(directory: Path, needed: int, *, what: str) -> None:
    """Raise NoRoom if the disk of `directory`, which need not exist yet, has fewer than `needed` bytes free."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NoRoom(
            f"Expected {_mib(needed)} free in {directory} for {what}, found {_mib(free)}: free up space, or use a "
            "larger disk (a worker's steps write to TMPDIR)."
        )


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
