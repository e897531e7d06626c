"""Version number allocation that works on any store, because it relies on no conditional writes.

Each run writes a claim, an object of its own, under the number that it wants, then lists the claims under that number.
If its claim is the only one, the run owns the number; otherwise it tries a higher one. Claims are never withdrawn.

Two runs never own the same number, even if either pauses for long between two requests: one claim was written last, and
its run lists after writing, so it sees both claims and moves on. Both runs may see both and move on; the number then
stays unused. This requires a store whose listing includes earlier writes, as on S3 and MinIO; for a store whose
listing lags, set `settle_seconds`. After a collision, each run skips as many numbers as there are rivals with a smaller
run key, so that they do not collide again.

Attempts of the same run share one claim and one number, since they write identical objects.
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

# The names of the objects under each number, published or not.
Listing = dict[VersionNumber, set[str]]


def listing_of(store: Store) -> Listing:
    return listed(stored.key for stored in store.list(manifest.ADAPTERS))


def listed(keys: Iterable[str]) -> Listing:
    """Build the listing from keys of the bucket; keys of other objects are ignored."""
    listing: Listing = {}
    for key in keys:
        if match := _OBJECT.fullmatch(key):
            listing.setdefault(VersionNumber.parse(match["version"]), set()).add(match["name"])
    return listing


def published(listing: Listing) -> list[VersionNumber]:
    return sorted(number for number, names in listing.items() if manifest.METADATA in names)


def own_number(listing: Listing, run_key: str) -> VersionNumber | None:
    """The lowest unpublished number that only `run_key` has claimed; None if there is none."""
    own = manifest.claim_name(run_key)
    return min(
        (number for number, names in listing.items() if manifest.METADATA not in names and _claims(names) == {own}),
        default=None,
    )


def run_keys(names: set[str]) -> set[str]:
    """The run keys whose claims are among `names`."""
    return {name.removeprefix(manifest.CLAIM).removesuffix(".json") for name in _claims(names)}


def put_claim(store: Store, listing: Listing, versions: dict[VersionNumber, Family], claim: Claim) -> None:
    """Claim the next free number; `versions` maps each published number to its family."""
    family = Family.of(claim)
    taken: dict[VersionNumber, Family | None] = {**versions}
    taken |= {
        number: _claiming_family(store, number, names) for number, names in listing.items() if number not in versions
    }
    for _ in range(_rivals_before(listing, claim.run_key)):
        taken[manifest.next_number(taken, family)] = None
    number = manifest.next_number(taken, family)
    store.put_json(manifest.adapter_key(str(number), manifest.claim_name(claim.run_key)), claim.to_json())


def _claims(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(manifest.CLAIM)}


def _rivals_before(listing: Listing, run_key: str) -> int:
    """The number of rivals with a smaller run key on the highest number that `run_key` and others have claimed."""
    own = manifest.claim_name(run_key)
    contested = [number for number, names in listing.items() if own in names and len(_claims(names)) > 1]
    return sorted(_claims(listing[max(contested)])).index(own) if contested else 0


def _claiming_family(store: Store, number: VersionNumber, names: set[str]) -> Family | None:
    """The family that claims `number`; None if several do or if a claim cannot be read."""
    families = set()
    for name in sorted(_claims(names)):
        key = manifest.adapter_key(str(number), name)
        try:
            claim = store.get_record(key, Claim)
        except IntegrityError as error:
            telemetry.warning("publish.claim_unreadable", claim=store.uri(key), error=str(error))
            return None
        families.add(Family.of(claim))
    return families.pop() if len(families) == 1 else None
