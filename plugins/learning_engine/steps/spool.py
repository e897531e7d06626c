"""The spool: keeps a trained candidate on the worker's disk while the store fails, for the retry on the same worker.

Weights are learned from user text, so only the worker's user may read them, regardless of the umask.
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
    """The spool directory of one run."""
    return Path(store.spool).expanduser() / store.bucket / store.prefix / run_key


def keep(directory: Path, candidate: Candidate, packed: Path) -> None:
    """Write the archive, then the record, each atomically. Raises OSError."""
    for each in (*reversed(directory.parents), directory):
        each.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    with _atomic_write(directory / ARCHIVE) as file, packed.open("rb") as source:
        shutil.copyfileobj(source, file)
    with _atomic_write(directory / RECORD) as file:
        file.write(json.dumps(candidate.to_json()).encode())


def find(directory: Path) -> Candidate | None:
    """The candidate in `directory`, or None. A corrupt one is logged and treated as absent."""
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
    """Delete the spool directory of a candidate that is in the bucket."""
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new file that is moved to `path` once it is complete and synced to disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
