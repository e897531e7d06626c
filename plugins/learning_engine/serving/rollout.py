"""The safe swap of one adapter into every replica of a model server.

A server's name of a version always means the same weights (`<prefix><version>-<first 8 of sha256>`), so that no name
is ever loaded with other weights: MAX Serve would go on with the old ones. The road: `place` the files in a new
directory, `swap` (load once, prove with probes) on all replicas or on none, then the caller moves the pointer, and
`retire` unloads what is older once its requests have ended.
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
# Between a directory's name and a random part while it is written or removed; no name of a server holds it.
UNFINISHED = "~"
# A load that was held up on its way came after its retry: unloaded once, the name would answer as the base model.
LISTED_TWICE = "loaded twice, so left as it is: restart this replica to be rid of it"
# An unfinished directory of this age, in seconds, belongs to a worker that died.
ABANDONED = 24 * 3600


def place(
    archive: Path, sha256: str, *, name: str, adapter_dir: Path, check: Callable[[Path], None], max_bytes: int
) -> Path:
    """Unpack `archive` to `adapter_dir/name`, which appears whole, checked and on the disk, or not at all.

    A directory that stands there already is compared, never written to. Raises IntegrityError for an archive of
    another digest or a directory of other content, and what `check` raises.
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
                f"{final}: expected the files of the archive {sha256}, found others. A server may have them loaded: "
                "publish the adapter as a new version, or unload this one everywhere and remove the directory."
            )
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def prove(replica: Replica, name: str, probes: Sequence[Probe]) -> int:
    """How many probes `replica` answered with the version's own text: all, else ProofError. 0 where there are none."""
    for index, probe in enumerate(probes):
        answer = replica.complete(name, probe.messages, max_tokens=len(probe.tokens))
        if answer.strip() != probe.text.strip():
            raise ProofError(
                f"{replica}: expected the tokens of {name} in answer to probe {index} of {len(probes)}, found others: "
                "it serves other weights under this name. Restart this replica, then deploy again."
            )
    return len(probes)


def swap(replicas: Sequence[Replica], name: str, server_path: str, probes: Sequence[Probe]) -> list[ReplicaProof]:
    """Load `name` once on every replica and prove it there.

    Where one replica fails, those that did not have the adapter before this call lose it again and the error is
    raised; only a replica whose call broke off keeps it, under a name that no client knows. Safe to repeat. Raises
    ServingError or ProofError, and ConfigError without a replica.
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
        # A call that broke off may still run, and MAX Serve can die where its adapter is unloaded under it.
        ended = isinstance(error, ServingError) and not isinstance(error, NoAnswer)
        for other in touched:
            if ended or other is not replica:
                _unload(other, name)
        raise
    return proofs


def retire(
    replicas: Sequence[Replica], keep: Collection[str], owned: Callable[[str], bool], *, drain_seconds: float
) -> list[tuple[str, str]]:
    """Unload the adapters that this configuration made, `owned`, and no longer needs; gives (replica, name) pairs.

    Waits `drain_seconds` before the first one, since MAX Serve goes on with the base model where an adapter is
    unloaded under a running request. The base model, which servers list first, and names of others stay, and so does
    what is listed twice. A replica that does not obey keeps its adapters until the next time.
    """
    surplus = [(replica, name) for replica in replicas for name in _surplus(replica, keep, owned)]
    if surplus:
        time.sleep(drain_seconds)
    return [(str(replica), name) for replica, name in surplus if _unload(replica, name)]


def forget(adapter_dir: Path, keep: Collection[str], owned: Callable[[str], bool]) -> list[str]:
    """Remove the placed directories that no replica needs any longer, and what a worker that died left behind."""
    removed = []
    for path in sorted(adapter_dir.iterdir()) if adapter_dir.is_dir() else []:
        try:
            if path.is_dir() and not path.is_symlink() and _superfluous(path, keep, owned):
                _remove(path)
                removed.append(path.name)
        except OSError as error:
            # What is left on the disk harms nobody, and the next deployment tries again.
            warning("serving.not_removed", directory=str(path), message=str(error))
    return removed


def _remove(path: Path) -> None:
    """Under its own name a directory is always whole, so it first loses that for one that no other has."""
    if UNFINISHED not in path.name:
        path = path.rename(path.with_name(f".{path.name}{UNFINISHED}{secrets.token_hex(4)}"))
    shutil.rmtree(path)


def _superfluous(path: Path, keep: Collection[str], owned: Callable[[str], bool]) -> bool:
    name, unfinished, _ = path.name.partition(UNFINISHED)
    if unfinished:
        return owned(name.removeprefix(".")) and time.time() - path.stat().st_mtime > ABANDONED
    return owned(name) and name not in keep


def _surplus(replica: Replica, keep: Collection[str], owned: Callable[[str], bool]) -> list[str]:
    try:
        names = replica.models()
    except ServingError as error:
        event("serving.unreachable", replica=str(replica), message=str(error))
        return []
    surplus = [name for name in dict.fromkeys(names[1:]) if name != names[0] and owned(name) and name not in keep]
    for name in surplus:
        if names.count(name) > 1:
            event("serving.phantom", replica=str(replica), adapter=name, message=LISTED_TWICE)
    return [name for name in surplus if names.count(name) == 1]


def _unload(replica: Replica, name: str) -> bool:
    """Whether `name` is gone from the replica; a failure is logged, since what is left loaded harms nobody."""
    try:
        replica.unload(name)
        gone = name not in replica.models()
    except ServingError as error:
        event("serving.unload_failed", replica=str(replica), adapter=name, message=str(error))
        return False
    if not gone:
        event("serving.phantom", replica=str(replica), adapter=name, message="listed without weights: restart it")
    return gone


def _make_durable(directory: Path) -> None:
    """Open to the server's user, and on the disk whatever happens to this machine."""
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
