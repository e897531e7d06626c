"""A trained candidate in the bucket's staging area, and on the worker's disk while the store takes nothing.

Called by train.
"""

import json
import shutil
from pathlib import Path

from learning_engine import archive, telemetry
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.records.contracts import Candidate
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps.resources import Resources

ARCHIVE = "adapter.tar.gz"


def staged(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier try has staged; None where there is none, or what is there is not whole."""
    store = resources.store
    try:
        candidate = Candidate.from_json(store.get_json(manifest.run_key(run_key, "candidate.json")))
        found = store.digest(store.key(candidate.uri))
    except NotFound:
        return None
    except IntegrityError as error:
        telemetry.warning("train.candidate_altered", run_key=run_key, message=str(error))
        return None
    if found != candidate.sha256:
        telemetry.warning("train.candidate_altered", run_key=run_key, expected=candidate.sha256, found=found)
        return None
    return candidate


def spooled(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier try could only keep on this worker's disk, now staged; None where there is none."""
    directory = _spool(resources, run_key)
    record = directory / manifest.CANDIDATE
    if not record.is_file():
        return None
    candidate = Candidate.from_json(json.loads(record.read_text()))
    if archive.sha256_file(directory / ARCHIVE) != candidate.sha256:
        return None
    telemetry.event("train.continued", source=str(directory))
    stage(resources, candidate, directory / ARCHIVE)
    shutil.rmtree(directory)  # only now does the bucket hold all of it
    return candidate


def stage(resources: Resources, candidate: Candidate, packed: Path) -> None:
    """Archive, then record: the record is what a retry looks for."""
    try:
        resources.store.put_file(resources.store.key(candidate.uri), packed)
        resources.store.put_json(manifest.run_key(candidate.run_key, manifest.CANDIDATE), candidate.to_json())
    except StoreError as error:
        directory = _spool(resources, candidate.run_key)
        if packed.parent != directory:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packed, directory / ARCHIVE)
            (directory / manifest.CANDIDATE).write_text(json.dumps(candidate.to_json()))
        raise StoreError(
            f"{str(error).rstrip('.')}. The trained candidate is safe in {directory} on this worker; the next try on "
            "it continues there."
        ) from error


def _spool(resources: Resources, run_key: str) -> Path:
    store = resources.settings.store
    return Path(store.spool).expanduser() / store.bucket / store.prefix / run_key
