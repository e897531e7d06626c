"""Where a trained candidate waits on a worker's disk while the store takes nothing; the next try there goes on from it.

What is learned from users' words is for the worker's user alone, whatever the umask is.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from learning_engine import archive, telemetry
from learning_engine.config.sections import Store
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import Candidate

ARCHIVE, RECORD = "adapter.tar.gz", "candidate.json"


def place(store: Store, run_key: str) -> Path:
    """The directory of one run."""
    return Path(store.spool).expanduser() / store.bucket / store.prefix / run_key


def keep(directory: Path, candidate: Candidate, packed: Path) -> None:
    """Archive, then record; each appears whole or not at all. Raises OSError."""
    for each in (*reversed(directory.parents), directory):
        each.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    with _appearing(directory / ARCHIVE) as file, packed.open("rb") as source:
        shutil.copyfileobj(source, file)
    with _appearing(directory / RECORD) as file:
        file.write(json.dumps(candidate.to_json()).encode())


def find(directory: Path) -> Candidate | None:
    """The candidate that `directory` holds whole, or None. What is damaged is logged, and as good as not there."""
    if not (directory / RECORD).exists():
        return None
    try:
        data = json.loads((directory / RECORD).read_bytes())
        candidate = Candidate.from_json(data if isinstance(data, dict) else {})
        found = archive.sha256_file(directory / ARCHIVE)
    except (OSError, ValueError, RecordError) as error:
        telemetry.warning("train.spool_damaged", source=str(directory), message=str(error))
        return None
    if found != candidate.sha256:
        telemetry.warning("train.spool_damaged", source=str(directory), expected=candidate.sha256, found=found)
        return None
    return candidate


def drop(directory: Path) -> None:
    """Nobody needs it any more."""
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A new file that stands under `path` once it is whole and on the disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
