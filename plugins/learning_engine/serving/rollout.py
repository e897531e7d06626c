"""Swap one adapter safely into every replica of a model server.

An adapter's name on the server always stands for the same weights (`<prefix><version>-<first 8 of sha256>`), because
MAX Serve keeps serving the old weights if a name is loaded with new ones. The steps: `place` the files in a new
directory; `swap` (load once, prove with probes) on all replicas or none; the caller moves the pointer; `retire` unloads
older adapters once their requests have ended.
"""

import filecmp
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from learning_engine import archive as archives
from learning_engine.errors import ConfigError, IntegrityError, ProofError, ServingError
from learning_engine.records.contracts import ReplicaProof
from learning_engine.records.probe import Probe
from learning_engine.serving.client import NoAnswer, Replica
from learning_engine.telemetry import event, warning

SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Separates the name from a random part while a directory is written or removed. Server names never contain it.
UNFINISHED = "~"
# A delayed load request arrived after its retry. After one unload, the name would answer with the base model.
LISTED_TWICE = "loaded twice, so not unloaded: restart this replica to remove it"
# An unfinished directory older than this belongs to a dead worker.
ABANDONED_SECONDS = 24 * 3600


def place(
    archive: Path, sha256: str, *, name: str, adapter_dir: Path, check: Callable[[Path], None], max_bytes: int
) -> Path:
    """Unpack `archive` to `adapter_dir/name`, which appears complete, checked and flushed to disk, or not at all.

    An existing directory is compared, never written to. Raises IntegrityError if the archive has another digest or the
    directory other content, and whatever `check` raises.
    """
    if not SERVER_NAME.fullmatch(name):
        raise IntegrityError(f"Expected a server name of letters, digits, '.', '_' and '-', found {name!r}.")
    if (found := archives.sha256_file(archive)) != sha256:
        raise IntegrityError(f"{name}: expected an archive of sha256 {sha256}, found {found}; fetch it again.")
    adapter_dir.mkdir(parents=True, exist_ok=True)
    final = adapter_dir / name
    part = Path(tempfile.mkdtemp(prefix=f".{name}{UNFINISHED}", dir=adapter_dir))
    try:
        archives.unpack(archive, part, max_bytes=max_bytes)
        check(part)
        _make_durable(part)
        if not final.exists():
            part.rename(final)
            _sync(adapter_dir)
        elif not _same_content(part, final):
            raise IntegrityError(
                f"{final}: expected the files of the archive {sha256}, found others, which a server may have loaded: "
                "publish the adapter as a new version, or unload this one everywhere and remove the directory."
            )
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def prove(replica: Replica, name: str, probes: Sequence[Probe]) -> int:
    """Check that `replica` answers every probe with the version's text, or raise ProofError; return their number."""
    for index, probe in enumerate(probes):
        answer = replica.complete(name, probe.messages, max_tokens=len(probe.tokens))
        if answer.strip() != probe.text.strip():
            raise ProofError(
                f"{replica}: expected the tokens of {name} in answer to probe {index} of {len(probes)}, found others: "
                "it serves other weights under this name. Restart this replica, then deploy again."
            )
    return len(probes)


def swap(replicas: Sequence[Replica], name: str, server_path: str, probes: Sequence[Probe]) -> list[ReplicaProof]:
    """Load `name` once on every replica and prove it there. Safe to repeat.

    If one replica fails, the adapter is unloaded from the replicas that did not have it before, and the error is
    raised. Only a replica whose call was interrupted keeps it, under a name that no client uses. Raises ServingError
    or ProofError; ConfigError without a replica.
    """
    if not replicas:
        raise ConfigError("Expected at least one replica to serve the adapter, found none: list it in the connection.")
    absent = [replica for replica in replicas if name not in replica.models()]
    touched: list[Replica] = []
    proofs = []
    try:
        for replica in replicas:
            began = time.monotonic()
            if replica in absent:
                touched.append(replica)
                replica.load(name, server_path)
            seconds = round(time.monotonic() - began, 3)
            proofs.append(ReplicaProof(str(replica), name, prove(replica, name, probes), seconds))
            event("serving.proved", replica=str(replica), adapter=name, probes=len(probes), load_seconds=seconds)
    except BaseException as error:
        # An interrupted call may still be running, and unloading its adapter can crash MAX Serve.
        call_ended = isinstance(error, ServingError) and not isinstance(error, NoAnswer)
        for other in touched:
            if call_ended or other is not replica:
                _unload(other, name)
        raise
    return proofs


def retire(
    replicas: Sequence[Replica], keep: Collection[str], owned: Callable[[str], bool], *, drain_seconds: float
) -> list[tuple[str, str]]:
    """Unload the adapters of this configuration (`owned`) that are not in `keep`; return (replica, name) pairs.

    Waits `drain_seconds` first, because MAX Serve finishes a running request with the base model if its adapter is
    unloaded. Never unloads the base model, which servers list first, other owners' names, or names listed twice. A
    replica that fails keeps its adapters until the next call.
    """
    unneeded = [(replica, name) for replica in replicas for name in _unneeded(replica, keep, owned)]
    if unneeded:
        time.sleep(drain_seconds)
    return [(str(replica), name) for replica, name in unneeded if _unload(replica, name)]


def remove_obsolete(adapter_dir: Path, keep: Collection[str], owned: Callable[[str], bool]) -> list[str]:
    """Remove placed directories that no replica needs any more, and unfinished ones of dead workers."""
    removed = []
    for path in sorted(adapter_dir.iterdir()) if adapter_dir.is_dir() else []:
        try:
            if path.is_dir() and not path.is_symlink() and _is_obsolete(path, keep, owned):
                _remove(path)
                removed.append(path.name)
        except OSError as error:
            # A leftover directory does no harm, and the next deployment tries again.
            warning("serving.not_removed", directory=str(path), message=str(error))
    return removed


def _remove(path: Path) -> None:
    """Rename the directory before deleting it, because under its own name a directory is always complete."""
    if UNFINISHED not in path.name:
        path = path.rename(path.with_name(f".{path.name}{UNFINISHED}{secrets.token_hex(4)}"))
    shutil.rmtree(path)


def _is_obsolete(path: Path, keep: Collection[str], owned: Callable[[str], bool]) -> bool:
    name, unfinished, _ = path.name.partition(UNFINISHED)
    if unfinished:
        return owned(name.removeprefix(".")) and time.time() - path.stat().st_mtime > ABANDONED_SECONDS
    return owned(name) and name not in keep


def _unneeded(replica: Replica, keep: Collection[str], owned: Callable[[str], bool]) -> list[str]:
    try:
        names = replica.models()
    except ServingError as error:
        event("serving.unreachable", replica=str(replica), message=str(error))
        return []
    unneeded = [name for name in dict.fromkeys(names[1:]) if name != names[0] and owned(name) and name not in keep]
    for name in unneeded:
        if names.count(name) > 1:
            event("serving.phantom", replica=str(replica), adapter=name, message=LISTED_TWICE)
    return [name for name in unneeded if names.count(name) == 1]


def _unload(replica: Replica, name: str) -> bool:
    """Unload `name`; return whether it is gone. A failure is only logged, since a leftover adapter does no harm."""
    try:
        replica.unload(name)
        gone = name not in replica.models()
    except ServingError as error:
        event("serving.unload_failed", replica=str(replica), adapter=name, message=str(error))
        return False
    if not gone:
        event(
            "serving.phantom",
            replica=str(replica),
            adapter=name,
            message="still listed without weights: restart the replica",
        )
    return gone


def _make_durable(directory: Path) -> None:
    """Make the files readable for the server's user and flush them to disk."""
    for path in directory.iterdir():
        path.chmod(0o644)
        _sync(path)
    directory.chmod(0o755)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same_content(left: Path, right: Path) -> bool:
    names = sorted(path.name for path in left.iterdir())
    if names != sorted(path.name for path in right.iterdir()):
        return False
    return filecmp.cmpfiles(left, right, names, shallow=False)[0] == names
