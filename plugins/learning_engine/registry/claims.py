"""Who gets which number, on a store of any kind: no condition of the store is needed, and none is trusted.

Each piece of work puts an object of its own, its mark, under the number that it wants, then lists the marks of that
number. The number is its own if its mark stands alone; else it goes on to a higher one. Marks are never taken back.

Two pieces of work never own one number, however long either is paused between any two of its requests: one of the two
marks was put last, and whoever put that one listed later still, saw both and went on. Both may see both and go on; the
number then stays empty. This needs a store that lists what was put before, as S3, MinIO and others do; `settle_seconds`
is for one whose listing comes late. Where two collide, each skips as many numbers as there are rivals before it in the
order of the run keys, so that they do not meet again.

Tries of the same work share one mark and one number: what they write there is the same.
"""

import re
from collections.abc import Iterable

from learning_engine import telemetry
from learning_engine.errors import IntegrityError
from learning_engine.registry import manifest
from learning_engine.registry.draft import Claim
from learning_engine.registry.manifest import Family, VersionNumber
from learning_engine.registry.store import Store

_OBJECT = re.compile(rf"{manifest.ADAPTERS}(?P<version>v[0-9]+\.[0-9]+)/(?P<name>[^/]+)")

# The names of the objects of each number, published or not.
Listing = dict[VersionNumber, set[str]]


def listing_of(store: Store) -> Listing:
    return listed(stored.key for stored in store.list(manifest.ADAPTERS))


def listed(keys: Iterable[str]) -> Listing:
    """The listing that `keys` of the bucket make; those of other objects are passed over."""
    listing: Listing = {}
    for key in keys:
        if match := _OBJECT.fullmatch(key):
            listing.setdefault(VersionNumber.parse(match["version"]), set()).add(match["name"])
    return listing


def published(listing: Listing) -> list[VersionNumber]:
    return sorted(number for number, names in listing.items() if manifest.METADATA in names)


def own_number(listing: Listing, run_key: str) -> VersionNumber | None:
    """The number that is not published yet and that `run_key` alone has marked; the lowest, if there are several."""
    own = manifest.claim_name(run_key)
    return min(
        (number for number, names in listing.items() if manifest.METADATA not in names and _marks(names) == {own}),
        default=None,
    )


def run_keys(names: set[str]) -> set[str]:
    """Whose marks are among `names`."""
    return {name.removeprefix(manifest.CLAIM).removesuffix(".json") for name in _marks(names)}


def mark(store: Store, listing: Listing, versions: dict[VersionNumber, Family], claim: Claim) -> None:
    """Mark the next number that nobody has; `versions` are the families of the published ones."""
    family = Family.of(claim)
    taken: dict[VersionNumber, Family | None] = {**versions}
    taken |= {number: _claimed(store, number, names) for number, names in listing.items() if number not in versions}
    for _ in range(_rivals_before(listing, claim.run_key)):
        taken[manifest.next_number(taken, family)] = None
    number = manifest.next_number(taken, family)
    store.put_json(manifest.adapter_key(str(number), manifest.claim_name(claim.run_key)), claim.to_json())


def _marks(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(manifest.CLAIM)}


def _rivals_before(listing: Listing, run_key: str) -> int:
    """How many come before `run_key` on the highest number that it wants and others want too."""
    own = manifest.claim_name(run_key)
    contested = [number for number, names in listing.items() if own in names and len(_marks(names)) > 1]
    return sorted(_marks(listing[max(contested)])).index(own) if contested else 0


def _claimed(store: Store, number: VersionNumber, names: set[str]) -> Family | None:
    """The family that wants `number`, None where several do or where a mark cannot be read: then it is nobody's."""
    families = set()
    for name in sorted(_marks(names)):
        key = manifest.adapter_key(str(number), name)
        try:
            claim = store.get_record(key, Claim)
        except IntegrityError as error:
            telemetry.warning("publish.claim_unreadable", claim=store.uri(key), error=str(error))
            return None
        families.add(Family.of(claim))
    return families.pop() if len(families) == 1 else None
