"""A trained candidate in the bucket's staging area, and on the worker's disk while the store takes nothing.

Called by train.
"""

from pathlib import Path

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.records.contracts import Candidate
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import spool
from learning_engine.steps.resources import Resources

ARCHIVE = spool.ARCHIVE


def staged(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier try has staged; None where there is none, or what is there is not whole."""
    store = resources.store
    try:
        candidate = store.get_record(manifest.run_key(run_key, manifest.CANDIDATE), Candidate)
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
    directory = spool.place(resources.settings.store, run_key)
    if candidate := spool.find(directory):
        telemetry.event("train.continued", source=str(directory))
        stage(resources, candidate, directory / ARCHIVE)
    return candidate


def stage(resources: Resources, candidate: Candidate, packed: Path) -> None:
    """Archive, then record: the record is what a retry looks for."""
    directory = spool.place(resources.settings.store, candidate.run_key)
    try:
        resources.store.put_file(resources.store.key(candidate.uri), packed)
        resources.store.put_json(manifest.run_key(candidate.run_key, manifest.CANDIDATE), candidate.to_json())
    except StoreError as error:
        raise StoreError(f"{str(error).rstrip('.')}. {_kept(directory, candidate, packed)}") from error
    spool.drop(directory)  # only now does the bucket hold all of it


def _kept(directory: Path, candidate: Candidate, packed: Path) -> str:
    """Keep on this worker's disk what the store did not take; says where, or why not."""
    try:
        if packed.parent != directory:
            spool.keep(directory, candidate, packed)
    except OSError as error:
        return (
            f"The trained candidate could not be kept in {directory} either: {error.strerror or error}; the next try "
            "trains from the last checkpoint. Make room there, or set store.spool."
        )
    return f"The trained candidate is safe in {directory} on this worker; the next try on it continues there."
