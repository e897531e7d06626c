"""The integrity audit: read the ledger and every object of every version, and check each against its digest.

Called by the maintenance DAG. Objects that retention has deleted, according to swept.json, are not expected.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import census, manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.retention import swept_of
from learning_engine.registry.store import Store

THREADS = 4


@dataclass(frozen=True)
class Finding:
    """An object that is missing, modified or inconsistent."""

    uri: str
    problem: str

    def __str__(self) -> str:
        return f"{self.uri}: {self.problem}"


def audit(store: Store, registry: Registry) -> list[Finding]:
    """Read the ledger and every object of every version; return one finding per missing or modified object."""
    ledger, now = Ledger(store), datetime.now(UTC)
    versions = census.take(store, registry, ledger, now=now)
    unreadable = {manifest.adapter_key(name, manifest.METADATA): why for name, why in versions.unreadable.items()}
    findings = [Finding(store.uri(key), problem) for key, problem in (ledger.problems(now) | unreadable).items()]
    expected: dict[str, str | None] = {}
    for version in versions.readable:
        try:
            expected |= _expected(store, version)
        except IntegrityError as error:
            findings.append(Finding(store.uri(manifest.adapter_key(version.version, manifest.SWEPT)), str(error)))
    present = {stored.key for prefix in manifest.PLACES for stored in store.list(prefix)}
    findings += [Finding(store.uri(key), "missing") for key in sorted(set(expected) - present)]
    with ThreadPoolExecutor(THREADS) as pool:
        checked = pool.map(lambda key: _check(store, key, expected.get(key)), sorted(present))
        return findings + [finding for finding in checked if finding]


def _expected(store: Store, version: AdapterVersion) -> dict[str, str | None]:
    """The objects that `version` must have, by key, with their recorded digests; None: use the object's metadata."""
    name, probes, fisher = version.version, version.report.probes, version.fisher
    expected = {
        manifest.adapter_key(name, manifest.ARCHIVE): version.sha256,
        manifest.adapter_key(name, manifest.CARD): None,
    }
    if version.heldout_uri:
        expected[manifest.heldout_key(name)] = None
    if version.replay_uri:
        expected[manifest.replay_key(name)] = None
    if probes:
        expected[manifest.adapter_key(name, manifest.PROBES)] = probes.sha256
    expected = {key: sha256 for key, sha256 in expected.items() if key not in swept_of(store, name)}
    if fisher.uri:
        expected[store.key(fisher.uri)] = fisher.sha256
    return expected


def _check(store: Store, key: str, expected: str | None) -> Finding | None:
    expected = expected or store.head(key).sha256
    found = store.digest(key)
    if expected in (None, found):
        return None
    return Finding(store.uri(key), f"expected sha256 {expected}, found {found}")
