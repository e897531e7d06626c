"""Which versions there are: those that can be read, and those that were published and cannot be read any more.

A publish that crashed leaves marks and copies under its number, and is no version. A version that has lost its
metadata.json looks much the same. What tells it apart is what only a published version has: a child, an entry in the
ledger, Fisher information, a record of its revocation and the like; or its model card, which is written last before the
metadata.
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

# Written of published versions alone.
AFTERWARDS = (manifest.REVOKED, manifest.SWEPT, manifest.VOUCHED)
# So long after its card a version may still be about to get its metadata, by a retry where the first try was killed.
PUBLISHING = timedelta(hours=1)


@dataclass(frozen=True)
class Census:
    """`whole` can be read, lowest number first; `broken` cannot, by name with what is wrong with its metadata."""

    whole: list[AdapterVersion]
    broken: dict[str, str]

    @property
    def names(self) -> set[str]:
        return {version.version for version in self.whole} | self.broken.keys()


def take(store: Store, registry: Registry, ledger: Ledger, *, now: datetime) -> Census:
    whole: list[AdapterVersion] = []
    broken: dict[str, str] = {}
    for name in registry.numbers():
        try:
            whole.append(registry.get(name))
        except (IntegrityError, RegistryError) as error:
            broken[name] = str(error)
    shown = dict(_shown(store, whole, ledger, now))
    # Listed once more, after what shows it: a version may have been published meanwhile.
    lost = sorted(shown.keys() - set(registry.numbers()))
    return Census(whole, broken | {name: _lost(name, shown[name]) for name in lost})


def _shown(store: Store, whole: list[AdapterVersion], ledger: Ledger, now: datetime) -> Iterator[tuple[str, str]]:
    """Versions that were published, whether or not their metadata are there, and what shows it; the surest last."""
    for stored in store.list(manifest.ADAPTERS):
        version, name = manifest.version_of(stored.key), stored.key.rpartition("/")[2]
        if version and name == manifest.CARD and stored.modified < now - PUBLISHING:
            yield version, "its model card is there"
        if version and name in AFTERWARDS:
            yield version, f"its {name} is there"
    for stored in store.list(manifest.FISHER):
        if version := manifest.version_of(stored.key):
            yield version, "its Fisher information is there"
    for child in whole:
        for parent in (child.parent, *child.dataset.passed_over):
            if parent:
                yield parent, f"{child.version} continues it"
    for live in ledger.versions():
        yield live, "the ledger names it"


def _lost(name: str, why: str) -> str:
    return (
        f"missing, but {why}: restore it from your backup; or clear `publish` of its run, which writes it again while "
        f"the run's staging is there. Should {name} never have been published, delete what lies under its number."
    )
