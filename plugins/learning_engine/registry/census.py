"""List the published versions: those that can be read, and those whose metadata are missing or corrupt.

A crashed publish leaves claims and copies under its number, but no version. A version without its metadata.json looks
much the same. Evidence that it was published: a child, a ledger entry, Fisher information, a revocation or similar
record, or its model card, which is the last object written before the metadata. Called by retention and the audit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store

# Records that only published versions have.
ONLY_PUBLISHED = (manifest.REVOKED, manifest.SWEPT, manifest.VOUCHED)
# Within this time after the card, the publish or its retry may still write the metadata.
PUBLISHING = timedelta(hours=1)


@dataclass(frozen=True)
class Census:
    """`readable`: lowest number first. `unreadable`: name → what is wrong with the metadata."""

    readable: list[AdapterVersion]
    unreadable: dict[str, str]

    @property
    def names(self) -> set[str]:
        return {version.version for version in self.readable} | self.unreadable.keys()


def take(store: Store, registry: Registry, ledger: Ledger, *, now: datetime) -> Census:
    """List the published versions. Raises StoreError if the store fails."""
    readable: list[AdapterVersion] = []
    unreadable: dict[str, str] = {}
    for name in registry.numbers():
        try:
            readable.append(registry.get(name))
        except (IntegrityError, RegistryError) as error:
            unreadable[name] = str(error)
    evidence = dict(_evidence(store, readable, ledger, now))
    # List the versions again after collecting the evidence: one may have been published meanwhile.
    missing = sorted(evidence.keys() - set(registry.numbers()))
    return Census(readable, unreadable | {name: _missing(name, evidence[name]) for name in missing})


def _evidence(store: Store, readable: list[AdapterVersion], ledger: Ledger, now: datetime) -> Iterator[tuple[str, str]]:
    """Versions that were published, with or without metadata, and the evidence for it; the strongest comes last."""
    for stored in store.list(manifest.ADAPTERS):
        version, name = manifest.version_of(stored.key), stored.key.rpartition("/")[2]
        if version and name == manifest.CARD and stored.modified < now - PUBLISHING:
            yield version, "its model card exists"
        if version and name in ONLY_PUBLISHED:
            yield version, f"its {name} exists"
    for stored in store.list(manifest.FISHER):
        if version := manifest.version_of(stored.key):
            yield version, "its Fisher information exists"
    for child in readable:
        for ancestor in (child.parent, *child.dataset.passed_over):
            if ancestor:
                yield ancestor, f"{child.version} names it as an ancestor"
    for live in ledger.versions():
        yield live, "the ledger names it"


def _missing(name: str, why: str) -> str:
    return (
        f"missing, but {why}: restore it from your backup, or clear `publish` of its run, which writes it again if the "
        f"run's staging still exists. If {name} was never published, delete the objects under its number."
    )
