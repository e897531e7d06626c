"""Staging of a trained candidate: in the bucket, or on the worker's disk while the store fails."""

from pathlib import Path

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.records.contracts import Candidate
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import spool
from learning_engine.steps.resources import Resources


def staged(resources: Resources, run_key: str) -> Candidate | None:
    """The candidate that an earlier attempt staged; None if there is none or it is corrupt."""
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
    """Stage the candidate that an earlier attempt could only keep on this worker's disk; None if there is none."""
    directory = spool.place(resources.settings.store, run_key)
    if candidate := spool.find(directory):
        telemetry.event("train.continued", source=str(directory))
        stage(resources, candidate, directory / spool.ARCHIVE)
    return candidate


def stage(resources: Resources, candidate: Candidate, packed: Path) -> None:
    """Upload the archive, then the record, which tells a retry that the candidate is complete."""
    directory = spool.place(resources.settings.store, candidate.run_key)
    try:
        resources.store.put_file(resources.store.key(candidate.uri), packed)
        resources.store.put_json(manifest.run_key(candidate.run_key, manifest.CANDIDATE), candidate.to_json())
    except StoreError as error:
        raise StoreError(f"{str(error).rstrip('.')}. {_keep_locally(directory, candidate, packed)}") from error
    spool.drop(directory)  # safe only now that the bucket has both objects


def _keep_locally(directory: Path, candidate: Candidate, packed: Path) -> str:
    """Keep the candidate on this worker's disk; returns a message that says where, or why that failed."""
    try:
        if packed.parent != directory:
            spool.keep(directory, candidate, packed)
    except OSError as error:
        return (
            f"The trained candidate could not be kept in {directory} either: {error.strerror or error}; the retry "
            "continues training from the last checkpoint. Free up space there, or set store.spool."
        )
    return f"The trained candidate is safe in {directory} on this worker; a retry on this worker continues from it."
