"""An inventory of the bucket: one listing, and the records that the metrics are computed from. Called by metrics.

Metadata and ledger entries never change and are read once. The progress of a training is read every time.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from learning_engine.errors import LearningEngineError, StoreError
from learning_engine.records.contracts import AdapterVersion, Deployment, TrainingProgress
from learning_engine.registry import claims, manifest
from learning_engine.registry.store import NotFound, Stored
from learning_engine.steps.resources import Resources

THREADS = 8
AREAS = ("adapters", "fisher", "heldout", "replay", "runs", "deployments")
OTHER = "other"
# A training without an update for the shorter time no longer counts as running; after the longer it is ignored.
STALE_AFTER, FORGOTTEN_AFTER = timedelta(minutes=10), timedelta(days=1)

R = TypeVar("R")


@dataclass(frozen=True)
class Inventory:
    """`versions`: readable ones, lowest number first. `revoked`, `with_archive`: version names. `deployments`: oldest
    first, None for an unreadable entry. `training`: the latest one without a staged candidate; `running`: whether it
    has reported recently. `objects`, `bytes` and `unreadable` (records that cannot be read) are by area."""

    versions: list[AdapterVersion]
    revoked: frozenset[str]
    with_archive: frozenset[str]
    deployments: list[Deployment | None]
    training: TrainingProgress | None
    running: bool
    objects: dict[str, int]
    bytes: dict[str, int]
    unreadable: dict[str, int]

    @property
    def newest(self) -> AdapterVersion | None:
        return max(self.versions, key=lambda version: version.created_at, default=None)

    @property
    def live(self) -> Deployment | None:
        """None before the first deployment, and if the newest entry cannot be read."""
        return self.deployments[-1] if self.deployments else None


def take_inventory(resources: Resources, *, now: datetime) -> Inventory:
    """Raises StoreError if the store gives no answer. Unreadable records are only counted."""
    found = {stored.key: stored for stored in resources.store.list()}
    listing = claims.listed(found)

    def with_object(name: str) -> frozenset[str]:
        return frozenset(str(number) for number, names in listing.items() if name in names)

    versions = _read_all(resources.registry.get, map(str, claims.published(listing)))
    deployments = _read_all(resources.ledger.entry, sorted(key for key in found if key.startswith(manifest.LEDGER)))
    key = newest_training(found, now)
    (training,) = _read_all(lambda at: resources.store.get_record(at, TrainingProgress), [key]) if key else (None,)
    objects, sizes = _sizes(found.values())
    return Inventory(
        versions=[version for version in versions if version is not None],
        revoked=with_object(manifest.REVOKED),
        with_archive=with_object(manifest.ARCHIVE),
        deployments=deployments,
        training=training,
        running=training is not None and now - training.updated_at <= STALE_AFTER,
        objects=objects,
        bytes=sizes,
        unreadable={
            "adapters": versions.count(None),
            "deployments": deployments.count(None),
            "runs": int(key is not None and training is None),
        },
    )


def _read_all(read: Callable[[str], R], names: Iterable[str]) -> list[R | None]:
    """The record of each name, None if unreadable. Raises StoreError if the store gives no answer."""

    def one(name: str) -> R | None:
        try:
            return read(name)
        except NotFound:
            return None
        except StoreError:
            raise
        except LearningEngineError:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, names))


def newest_training(found: dict[str, Stored], now: datetime) -> str | None:
    """The key of the most recently written progress record without a staged candidate."""
    written = [key for key in found if key.startswith(manifest.RUNS) and key.endswith(f"/{manifest.PROGRESS}")]
    unstaged = [key for key in written if key.removesuffix(manifest.PROGRESS) + manifest.CANDIDATE not in found]
    alive = [key for key in unstaged if now - found[key].modified <= FORGOTTEN_AFTER]
    return max(alive, key=lambda key: found[key].modified, default=None)


def _sizes(stored: Iterable[Stored]) -> tuple[dict[str, int], dict[str, int]]:
    objects, sizes = (Counter(dict.fromkeys(AREAS, 0)) for _ in range(2))
    for each in stored:
        area = each.key.partition("/")[0]
        area = area if area in AREAS else OTHER
        objects[area] += 1
        sizes[area] += each.size
    return dict(objects), dict(sizes)
