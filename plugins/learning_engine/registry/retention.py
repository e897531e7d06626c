"""Retention: delete the objects in the bucket whose retention period has ended. Called by the maintenance DAG.

User text is kept for `text_days`, runs and the remains of crashed runs for `runs_days`, rejected archives for
`rejected_days`. Never deleted:

- metadata and accepted archives;
- archives, probes and runs of the live version and the rollback target, and the archives of their ancestors;
- Fisher information that is a version's newest, or under which a version was trained;
- the snapshot of a version whose Fisher information has not been measured yet.

A version's objects are recorded in its swept.json before they are deleted, so that the audit can tell them from lost
objects. An unreadable record stops nothing else: the objects that depend on it are kept and counted. If a version's
metadata are corrupt or missing, only its user text is deleted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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


@dataclass(frozen=True)
class Swept:
    """The number of objects and bytes deleted (with `dry_run`: to be deleted), by kind; and the number of unreadable
    records, by the kind of objects kept because of them."""

    dry_run: bool
    objects: dict[str, int]
    bytes: dict[str, int]
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Expired:
    """An object to delete; `version` is the published version to which it belongs, if any."""

    kind: str
    stored: Stored
    version: str | None = None


class Skipped(Counter[str]):
    """Counts, by kind, what is kept because a record cannot be read; logs each."""

    def add(self, kind: str, record: str, error: object) -> None:
        telemetry.warning("sweep.skipped", kind=kind, record=record, message=str(error))
        self[kind] += 1


def sweep(
    store: Store, registry: Registry, ledger: Ledger, retention: Retention, *, now: datetime, dry_run: bool = False
) -> Swept:
    """Delete the objects whose retention period has ended."""
    skipped = Skipped()
    versions = census.take(store, registry, ledger, now=now)
    for name, problem in versions.unreadable.items():
        skipped.add("versions", store.uri(manifest.adapter_key(name, manifest.METADATA)), problem)
    deployable = _live_and_rollback_target(ledger, skipped)
    runs_end = now - timedelta(days=retention.runs_days)
    expired = [
        *_runs(store, versions, deployable, runs_end),
        *_parts(store, versions, deployable, _ancestors(registry, deployable, skipped), retention, now),
        *_abandoned_numbers(store, versions, runs_end),
        *_fisher_information(store, versions, runs_end, skipped),
    ]
    expired = _recorded(store, expired, now, skipped, dry_run=dry_run)
    if not dry_run:
        store.delete(each.stored.key for each in expired)
    sizes: Counter[str] = Counter()
    for each in expired:
        sizes[each.kind] += each.stored.size
    return Swept(dry_run, dict(Counter(each.kind for each in expired)), dict(sizes), dict(skipped))


def swept_of(store: Store, version: str) -> dict[str, str]:
    """When each object of `version` was deleted, by key. Raises IntegrityError if the record cannot be read."""
    key = manifest.adapter_key(version, manifest.SWEPT)
    try:
        return dict(store.get_json(key)["swept"])
    except NotFound:
        return {}
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{store.uri(key)}: expected the deleted objects by key, found other content: restore it from your backup."
        ) from error


def _live_and_rollback_target(ledger: Ledger, skipped: Skipped) -> set[str]:
    """The live version and the rollback target; if the ledger cannot be read, every version that it names."""
    try:
        live = ledger.current()
        return {name for name in (live.version if live else None, ledger.rollback_target()) if name}
    except IntegrityError as error:
        skipped.add("ledger", manifest.LEDGER, error)
        return ledger.versions()


def _ancestors(registry: Registry, names: set[str], skipped: Skipped) -> set[str] | None:
    """The versions `names` and their ancestors; None if these cannot be determined."""
    try:
        return {ancestor.version for version in names for ancestor in registry.lineage(version)}
    except (RegistryError, IntegrityError) as error:
        skipped.add("rejected", manifest.ADAPTERS, error)
        return None


def _runs(store: Store, versions: Census, deployable: set[str], before: datetime) -> Iterator[Expired]:
    """The staging of runs that have written nothing since `before`."""
    version_of_run = {version.run_key: version for version in versions.readable}
    unreadable = {
        str(number): names for number, names in claims.listing_of(store).items() if str(number) in versions.unreadable
    }
    kept_runs = {run for name in deployable & unreadable.keys() for run in claims.run_keys(unreadable[name])}
    for run, objects in _grouped(store.list(manifest.RUNS), lambda key: key.split("/")[1]):
        version = version_of_run.get(run)
        if _newest(objects) >= before or run in kept_runs or (version and version.version in deployable):
            continue
        kept = store.key(version.dataset.uri) if version and _awaits_fisher(store, version) else None
        yield from (Expired("runs", stored) for stored in objects if stored.key != kept)


def _awaits_fisher(store: Store, version: AdapterVersion) -> bool:
    if not version.accepted or store.exists(manifest.adapter_key(version.version, manifest.REVOKED)):
        return False
    return not store.exists(manifest.fisher_key(version.version, manifest.FISHER_RECORD))


def _parts(
    store: Store,
    versions: Census,
    deployable: set[str],
    ancestors: set[str] | None,
    retention: Retention,
    now: datetime,
) -> Iterator[Expired]:
    """The parts of published versions that are kept for a limited time."""
    present = {stored.key: stored for prefix in (manifest.ADAPTERS, *manifest.TEXTS) for stored in store.list(prefix)}
    text_ends, rejected_ends = (now - timedelta(days=days) for days in (retention.text_days, retention.rejected_days))
    created = {version.version: version.created_at for version in versions.readable}
    for name in [*created, *versions.unreadable]:
        for kind, key in (
            ("heldout", manifest.heldout_key(name)),
            ("replay", manifest.replay_key(name)),
            ("probes", manifest.adapter_key(name, manifest.PROBES)),
        ):
            stored = present.get(key)
            # Without readable metadata, the age of the object itself counts.
            if (
                stored
                and created.get(name, stored.modified) < text_ends
                and not (kind == "probes" and name in deployable)
            ):
                yield Expired(kind, stored, name)
    if ancestors is None:
        return
    for version in versions.readable:
        stored = present.get(manifest.adapter_key(version.version, manifest.ARCHIVE))
        if stored and not version.accepted and version.created_at < rejected_ends and version.version not in ancestors:
            yield Expired("rejected", stored, version.version)


def _abandoned_numbers(store: Store, versions: Census, before: datetime) -> Iterator[Expired]:
    """The objects under numbers that were claimed before `before` and never became a version."""
    objects = (stored for prefix in manifest.PLACES for stored in store.list(prefix) if manifest.version_of(stored.key))
    for name, group in _grouped(objects, lambda key: key.split("/")[1]):
        if name not in versions.names and _newest(group) < before:
            yield from (Expired("claims", stored) for stored in group)


def _fisher_information(store: Store, versions: Census, before: datetime, skipped: Skipped) -> Iterator[Expired]:
    """Measurements older than `before` that were superseded, or whose base model no version continues."""
    if versions.unreadable:
        names = ", ".join(versions.unreadable)
        skipped.add("fisher", manifest.FISHER, f"{names} may have been trained under any of them")
        return
    used = {store.key(version.fisher.uri) for version in versions.readable if version.fisher.uri}
    for name, group in _grouped(store.list(manifest.FISHER), lambda key: key.split("/")[1]):
        keys = {stored.key for stored in group}
        record = manifest.fisher_key(name, manifest.FISHER_RECORD)
        kept = keys & used
        if record in keys and (kept or name in versions.names):
            try:
                newest = store.get_record(record, FisherRecord)
            except IntegrityError as error:
                skipped.add("fisher", store.uri(record), error)
                continue
            kept |= {record, store.key(str(newest.uri))}
        yield from (
            Expired("fisher", stored) for stored in group if stored.key not in kept and stored.modified < before
        )


def _recorded(store: Store, expired: list[Expired], now: datetime, skipped: Skipped, *, dry_run: bool) -> list[Expired]:
    """Record what will be deleted of versions; return what may be deleted, which excludes what cannot be recorded."""
    deletable = [each for each in expired if each.version is None]
    of_versions = [each for each in expired if each.version]
    for version, members in groupby(sorted(of_versions, key=lambda e: str(e.version)), key=lambda e: str(e.version)):
        key, group = manifest.adapter_key(version, manifest.SWEPT), list(members)
        try:
            swept = swept_of(store, version) | {each.stored.key: now.isoformat() for each in group}
        except IntegrityError as error:
            skipped.add("swept", store.uri(key), error)
            continue
        if not dry_run:
            store.put_json(key, {"swept": swept})
        deletable += group
    return deletable


def _grouped(objects: Iterable[Stored], name: Callable[[str], str]) -> Iterator[tuple[str, list[Stored]]]:
    ordered = sorted(objects, key=lambda stored: (name(stored.key), stored.key))
    for group, members in groupby(ordered, key=lambda stored: name(stored.key)):
        yield group, list(members)


def _newest(objects: list[Stored]) -> datetime:
    return max(stored.modified for stored in objects)
