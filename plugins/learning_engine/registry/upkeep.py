"""Retention and the integrity audit of the bucket. Called by the maintenance DAG.

What users wrote is kept for `text_days`, runs and what crashed runs left for `runs_days`, rejected archives for
`rejected_days`. Never swept: metadata, accepted archives, Fisher information that is a version's newest or that a
version was trained under, anything of the live version and of the one that a rollback returns to but their held-out
sets and reservoirs, the archives of the live version's ancestors, and the snapshot of a version whose Fisher
information has still to be measured. What is swept of a version is noted in its swept.json, so that the audit tells
what retention took from what was lost.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from learning_engine.config.sections import Retention
from learning_engine.errors import IntegrityError
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import AdapterVersion, FisherRecord
from learning_engine.registry import manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import NotFound, Store, Stored

THREADS = 4
# Where the objects of versions lie; TEXTS hold users' words.
TEXTS = (manifest.HELDOUT, manifest.REPLAY)
PLACES = (manifest.ADAPTERS, manifest.FISHER, *TEXTS)
_OF_VERSION = re.compile(r"(?:adapters|fisher|heldout|replay)/(v[0-9]+\.[0-9]+)/.+")


@dataclass(frozen=True)
class Swept:
    """How many objects, and bytes, went (or with `dry_run` would go), by kind."""

    dry_run: bool
    objects: dict[str, int]
    bytes: dict[str, int]


@dataclass(frozen=True)
class Finding:
    """An object that is not what it should be."""

    uri: str
    problem: str

    def __str__(self) -> str:
        return f"{self.uri}: {self.problem}"


@dataclass(frozen=True)
class Doomed:
    """An object whose time is over; `version` is the published version that it belonged to, if any."""

    kind: str
    stored: Stored
    version: str | None = None


def sweep(
    store: Store, registry: Registry, ledger: Ledger, retention: Retention, *, now: datetime, dry_run: bool = False
) -> Swept:
    """Delete what retention has ended for. Raises RegistryError, before any deletion, where the chain is broken."""
    versions = registry.versions()
    live = ledger.current()
    held = {live.version if live else None, ledger.rollback_target()} - {None}
    chain = {ancestor.version for version in held for ancestor in registry.lineage(version)}
    doomed = [
        *_runs(store, registry, versions, held, now - timedelta(days=retention.runs_days)),
        *_parts(store, versions, held, chain, retention, now),
        *_orphans(store, versions, now - timedelta(days=retention.runs_days)),
        *_fishers(store, versions, now - timedelta(days=retention.runs_days)),
    ]
    if not dry_run:
        _note(store, doomed, now)
        store.delete(each.stored.key for each in doomed)
    sizes: Counter[str] = Counter()
    for each in doomed:
        sizes[each.kind] += each.stored.size
    return Swept(dry_run, dict(Counter(each.kind for each in doomed)), dict(sizes))


def _runs(
    store: Store, registry: Registry, versions: list[AdapterVersion], held: set[str | None], before: datetime
) -> Iterator[Doomed]:
    """The staging of runs that have not written since `before`."""
    made = {version.run_key: version for version in versions}
    for run, objects in _grouped(store.list(manifest.RUNS), lambda key: key.split("/")[1]):
        version = made.get(run)
        if _newest(objects) >= before or (version and version.version in held):
            continue
        kept = store.key(version.dataset.uri) if version and _awaits_fisher(store, registry, version) else None
        yield from (Doomed("runs", stored) for stored in objects if stored.key != kept)


def _awaits_fisher(store: Store, registry: Registry, version: AdapterVersion) -> bool:
    if not version.accepted or registry.revoked(version.version):
        return False
    return not store.exists(manifest.fisher_key(version.version, manifest.FISHER_RECORD))


def _parts(
    store: Store,
    versions: list[AdapterVersion],
    held: set[str | None],
    chain: set[str],
    retention: Retention,
    now: datetime,
) -> Iterator[Doomed]:
    """The parts of published versions that are kept for a time only."""
    present = {stored.key: stored for prefix in (manifest.ADAPTERS, *TEXTS) for stored in store.list(prefix)}
    for version in versions:
        name, age = version.version, now - version.created_at
        text_is_over = age > timedelta(days=retention.text_days)
        rejected_is_over = not version.accepted and age > timedelta(days=retention.rejected_days)
        for kind, key, over in (
            ("heldout", manifest.heldout_key(name), text_is_over),
            ("replay", manifest.replay_key(name), text_is_over),
            ("probes", manifest.adapter_key(name, manifest.PROBES), text_is_over and name not in held),
            ("rejected", manifest.adapter_key(name, manifest.ARCHIVE), rejected_is_over and name not in chain),
        ):
            if over and key in present:
                yield Doomed(kind, present[key], name)


def _orphans(store: Store, versions: list[AdapterVersion], before: datetime) -> Iterator[Doomed]:
    """What stands under a number that was claimed before `before` and never became a version."""
    published = {version.version for version in versions}
    objects = (stored for prefix in PLACES for stored in store.list(prefix) if _OF_VERSION.fullmatch(stored.key))
    for name, group in _grouped(objects, lambda key: key.split("/")[1]):
        if name not in published and _newest(group) < before:
            yield from (Doomed("claims", stored) for stored in group)


def _fishers(store: Store, versions: list[AdapterVersion], before: datetime) -> Iterator[Doomed]:
    """Measurements from before `before` that were superseded, or guard a base model that no version continues."""
    used = {store.key(version.fisher.uri) for version in versions if version.fisher.uri}
    published = {version.version for version in versions}
    for name, group in _grouped(store.list(manifest.FISHER), lambda key: key.split("/")[1]):
        keys = {stored.key for stored in group}
        record = manifest.fisher_key(name, manifest.FISHER_RECORD)
        if _OF_VERSION.fullmatch(record) and name not in published:
            continue  # an orphan
        kept = keys & used
        if record in keys and (kept or name in published):
            newest = FisherRecord.from_json(store.get_json(record))
            kept |= {record, store.key(str(newest.uri))}
        yield from (Doomed("fisher", stored) for stored in group if stored.key not in kept and stored.modified < before)


def _note(store: Store, doomed: list[Doomed], now: datetime) -> None:
    """Write down what goes before it goes."""
    of_versions = [each for each in doomed if each.version]
    for version, group in groupby(sorted(of_versions, key=lambda d: str(d.version)), key=lambda d: str(d.version)):
        swept = _swept(store, version) | {each.stored.key: now.isoformat() for each in group}
        store.put_json(manifest.adapter_key(version, manifest.SWEPT), {"swept": swept})


def _swept(store: Store, version: str) -> dict[str, str]:
    try:
        return dict(store.get_json(manifest.adapter_key(version, manifest.SWEPT))["swept"])
    except NotFound:
        return {}


def audit(store: Store, registry: Registry) -> list[Finding]:
    """Read every object of every version again; names each that is missing or not what was written."""
    findings: list[Finding] = []
    expected: dict[str, str | None] = {}
    for name in registry.numbers():
        try:
            expected |= _expected(store, registry.get(name))
        except (IntegrityError, RecordError) as error:
            findings.append(Finding(store.uri(f"{manifest.ADAPTERS}{name}/"), str(error)))
    present = {stored.key for prefix in PLACES for stored in store.list(prefix)}
    findings += [Finding(store.uri(key), "missing") for key in sorted(set(expected) - present)]
    with ThreadPoolExecutor(THREADS) as pool:
        checked = pool.map(lambda key: _check(store, key, expected.get(key)), sorted(present))
        return findings + [finding for finding in checked if finding]


def _expected(store: Store, version: AdapterVersion) -> dict[str, str | None]:
    """The objects that `version` must have, each with its recorded digest; None: the one that it was written with."""
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
    expected = {key: sha256 for key, sha256 in expected.items() if key not in _swept(store, name)}
    if fisher.uri:
        expected[store.key(fisher.uri)] = fisher.sha256
    return expected


def _check(store: Store, key: str, expected: str | None) -> Finding | None:
    expected = expected or store.head(key).sha256
    found = store.digest(key)
    if expected in (None, found):
        return None
    return Finding(store.uri(key), f"expected sha256 {expected}, found {found}")


def _grouped(objects: Iterable[Stored], name: Callable[[str], str]) -> Iterator[tuple[str, list[Stored]]]:
    ordered = sorted(objects, key=lambda stored: (name(stored.key), stored.key))
    for group, members in groupby(ordered, key=lambda stored: name(stored.key)):
        yield group, list(members)


def _newest(objects: list[Stored]) -> datetime:
    return max(stored.modified for stored in objects)
