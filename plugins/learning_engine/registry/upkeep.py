"""Retention and the integrity audit of the bucket. Called by the maintenance DAG.

What users wrote is kept for `text_days`, runs and what crashed runs left for `runs_days`, rejected archives for
`rejected_days`. Never swept: metadata, accepted archives, Fisher information that is a version's newest or that a
version was trained under, anything of the live version and of the one that a rollback returns to but their held-out
sets and reservoirs, the archives of the live version's ancestors, and the snapshot of a version whose Fisher
information has still to be measured. What is swept of a version is noted in its swept.json, so that the audit tells
what retention took from what was lost.

A record that cannot be read stops nothing else: what only it could tell of stays, and is counted. Of a version whose
metadata are damaged or lost nothing is swept but users' words.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby

from learning_engine import telemetry
from learning_engine.config.sections import Retention
from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import AdapterVersion, FisherRecord
from learning_engine.registry import census, claims, manifest
from learning_engine.registry.census import Census
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import NotFound, Store, Stored

THREADS = 4
# Where the objects of versions lie; TEXTS hold users' words.
TEXTS = (manifest.HELDOUT, manifest.REPLAY)
PLACES = (manifest.ADAPTERS, manifest.FISHER, *TEXTS)


@dataclass(frozen=True)
class Swept:
    """How many objects, and bytes, went (or with `dry_run` would go), by kind; and how many records could not be read,
    by the kind of what stays for it."""

    dry_run: bool
    objects: dict[str, int]
    bytes: dict[str, int]
    skipped: dict[str, int] = field(default_factory=dict)


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


class Skipped(Counter[str]):
    """What stays because a record that tells of it cannot be read, by kind; each is logged."""

    def add(self, kind: str, record: str, error: object) -> None:
        telemetry.warning("sweep.skipped", kind=kind, record=record, message=str(error))
        self[kind] += 1


def sweep(
    store: Store, registry: Registry, ledger: Ledger, retention: Retention, *, now: datetime, dry_run: bool = False
) -> Swept:
    """Delete what retention has ended for."""
    skipped = Skipped()
    there = census.take(store, registry, ledger, now=now)
    for name, problem in there.broken.items():
        skipped.add("versions", store.uri(manifest.adapter_key(name, manifest.METADATA)), problem)
    held = _held(ledger, skipped)
    runs_are_over = now - timedelta(days=retention.runs_days)
    doomed = [
        *_runs(store, there, held, runs_are_over),
        *_parts(store, there, held, _chain(registry, held, skipped), retention, now),
        *_orphans(store, there, runs_are_over),
        *_fishers(store, there, runs_are_over, skipped),
    ]
    doomed = _noted(store, doomed, now, skipped, dry_run=dry_run)
    if not dry_run:
        store.delete(each.stored.key for each in doomed)
    sizes: Counter[str] = Counter()
    for each in doomed:
        sizes[each.kind] += each.stored.size
    return Swept(dry_run, dict(Counter(each.kind for each in doomed)), dict(sizes), dict(skipped))


def _held(ledger: Ledger, skipped: Skipped) -> set[str]:
    """The live version and the one that a rollback returns to; every one of the ledger where it cannot tell."""
    try:
        live = ledger.current()
        return {name for name in (live.version if live else None, ledger.rollback_target()) if name}
    except IntegrityError as error:
        skipped.add("ledger", manifest.LEDGER, error)
        return ledger.versions()


def _chain(registry: Registry, held: set[str], skipped: Skipped) -> set[str] | None:
    """The ancestors of what is held; None where they cannot be told."""
    try:
        return {ancestor.version for version in held for ancestor in registry.lineage(version)}
    except (RegistryError, IntegrityError) as error:
        skipped.add("rejected", manifest.ADAPTERS, error)
        return None


def _runs(store: Store, there: Census, held: set[str], before: datetime) -> Iterator[Doomed]:
    """The staging of runs that have not written since `before`."""
    made = {version.run_key: version for version in there.whole}
    broken = {str(number): names for number, names in claims.listing_of(store).items() if str(number) in there.broken}
    held_runs = {run for name in held & broken.keys() for run in claims.run_keys(broken[name])}
    for run, objects in _grouped(store.list(manifest.RUNS), lambda key: key.split("/")[1]):
        version = made.get(run)
        if _newest(objects) >= before or run in held_runs or (version and version.version in held):
            continue
        kept = store.key(version.dataset.uri) if version and _awaits_fisher(store, version) else None
        yield from (Doomed("runs", stored) for stored in objects if stored.key != kept)


def _awaits_fisher(store: Store, version: AdapterVersion) -> bool:
    if not version.accepted or store.exists(manifest.adapter_key(version.version, manifest.REVOKED)):
        return False
    return not store.exists(manifest.fisher_key(version.version, manifest.FISHER_RECORD))


def _parts(
    store: Store, there: Census, held: set[str], chain: set[str] | None, retention: Retention, now: datetime
) -> Iterator[Doomed]:
    """The parts of published versions that are kept for a time only."""
    present = {stored.key: stored for prefix in (manifest.ADAPTERS, *TEXTS) for stored in store.list(prefix)}
    text_ends, rejected_ends = (now - timedelta(days=days) for days in (retention.text_days, retention.rejected_days))
    born = {version.version: version.created_at for version in there.whole}
    for name in [*born, *there.broken]:
        for kind, key in (
            ("heldout", manifest.heldout_key(name)),
            ("replay", manifest.replay_key(name)),
            ("probes", manifest.adapter_key(name, manifest.PROBES)),
        ):
            stored = present.get(key)
            # When a version was made whose metadata cannot be read, its objects tell.
            if stored and born.get(name, stored.modified) < text_ends and not (kind == "probes" and name in held):
                yield Doomed(kind, stored, name)
    if chain is None:
        return
    for version in there.whole:
        stored = present.get(manifest.adapter_key(version.version, manifest.ARCHIVE))
        if stored and not version.accepted and version.created_at < rejected_ends and version.version not in chain:
            yield Doomed("rejected", stored, version.version)


def _orphans(store: Store, there: Census, before: datetime) -> Iterator[Doomed]:
    """What stands under a number that was claimed before `before` and never became a version."""
    objects = (stored for prefix in PLACES for stored in store.list(prefix) if manifest.version_of(stored.key))
    for name, group in _grouped(objects, lambda key: key.split("/")[1]):
        if name not in there.names and _newest(group) < before:
            yield from (Doomed("claims", stored) for stored in group)


def _fishers(store: Store, there: Census, before: datetime, skipped: Skipped) -> Iterator[Doomed]:
    """Measurements from before `before` that were superseded, or guard a base model that no version continues."""
    if there.broken:
        skipped.add("fisher", manifest.FISHER, f"{', '.join(there.broken)} may have been trained under any of them")
        return
    used = {store.key(version.fisher.uri) for version in there.whole if version.fisher.uri}
    for name, group in _grouped(store.list(manifest.FISHER), lambda key: key.split("/")[1]):
        keys = {stored.key for stored in group}
        record = manifest.fisher_key(name, manifest.FISHER_RECORD)
        kept = keys & used
        if record in keys and (kept or name in there.names):
            try:
                newest = store.get_record(record, FisherRecord)
            except IntegrityError as error:
                skipped.add("fisher", store.uri(record), error)
                continue
            kept |= {record, store.key(str(newest.uri))}
        yield from (Doomed("fisher", stored) for stored in group if stored.key not in kept and stored.modified < before)


def _noted(store: Store, doomed: list[Doomed], now: datetime, skipped: Skipped, *, dry_run: bool) -> list[Doomed]:
    """Write down what goes of versions before it goes; gives what may go, which is all but what cannot be noted."""
    may_go = [each for each in doomed if each.version is None]
    of_versions = [each for each in doomed if each.version]
    for version, group in groupby(sorted(of_versions, key=lambda d: str(d.version)), key=lambda d: str(d.version)):
        key, going = manifest.adapter_key(version, manifest.SWEPT), list(group)
        try:
            swept = _swept(store, version) | {each.stored.key: now.isoformat() for each in going}
        except IntegrityError as error:
            skipped.add("swept", store.uri(key), error)
            continue
        if not dry_run:
            store.put_json(key, {"swept": swept})
        may_go += going
    return may_go


def _swept(store: Store, version: str) -> dict[str, str]:
    """When what was swept of `version`, by key. Raises IntegrityError where it cannot be told."""
    key = manifest.adapter_key(version, manifest.SWEPT)
    try:
        return dict(store.get_json(key)["swept"])
    except NotFound:
        return {}
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{store.uri(key)}: expected what was swept by key, found something else; restore it from your backup."
        ) from error


def audit(store: Store, registry: Registry) -> list[Finding]:
    """Read the ledger and every object of every version again; names what is missing or not what was written."""
    ledger, now = Ledger(store), datetime.now(UTC)
    there = census.take(store, registry, ledger, now=now)
    broken = {manifest.adapter_key(name, manifest.METADATA): problem for name, problem in there.broken.items()}
    findings = [Finding(store.uri(key), problem) for key, problem in (ledger.problems(now) | broken).items()]
    expected: dict[str, str | None] = {}
    for version in there.whole:
        try:
            expected |= _expected(store, version)
        except IntegrityError as error:
            findings.append(Finding(store.uri(manifest.adapter_key(version.version, manifest.SWEPT)), str(error)))
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
