"""What was live when: an append-only ledger, one object per decision, and the pointer that is derived from it.

The newest entry is the truth; current.json repeats it for readers that want one fixed key, and is mended whenever it
lags behind. Entries are written by one task at a time (an Airflow pool of one slot).
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import Deployment
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound, Store, encode

THREADS = 8
TICK = timedelta(microseconds=1)
TRIES = 16


class Ledger:
    """The deployments in one store; safe to share among threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, Deployment] = {}

    def record(self, deployment: Deployment) -> Deployment:
        """Append a decision and move the pointer; returns the entry as it stands.

        Times only grow, so an entry never slips behind an earlier one because of a worker's slow clock. A run does not
        repeat its own decision while that is the newest; one that others have followed, `recorded` finds.
        """
        entry = deployment
        for _ in range(TRIES):
            newest = self.newest()
            if newest is not None:
                if _same_decision(newest, deployment):
                    entry = newest
                    break
                entry = dataclasses.replace(deployment, at=max(deployment.at, newest.at + TICK))
            if self.store.put_if_absent(manifest.ledger_key(entry.at, entry.version), encode(entry.to_json())):
                break
        else:
            raise RegistryError(f"Expected to append to the ledger, lost {TRIES} times: check the registry pool.")
        self.current()
        return entry

    def recorded(self, deployment: Deployment) -> Deployment | None:
        """The entry that this deployment has made, however many have followed it; None where it has made none.

        A run that is cleared from `deploy` loads the version again, after other entries: that is another decision.
        """
        same = (entry for entry in self.entries() if _same_decision(entry, deployment))
        return next((entry for entry in same if entry.follows == deployment.follows), None)

    def current(self) -> Deployment | None:
        """The newest entry, None before the first deployment; mends a pointer that lags behind."""
        newest = self.newest()
        if newest is not None and self._lags(newest):
            self.store.put_json(manifest.CURRENT, newest.to_json())
        return newest

    def newest(self) -> Deployment | None:
        """As `current`, for those who only look: the pointer stays as it is."""
        keys = self._keys()
        return self.entry(keys[-1]) if keys else None

    def entries(self) -> list[Deployment]:
        """Every decision, newest first."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self.entry, reversed(self._keys())))

    def entry(self, key: str) -> Deployment:
        """The decision under `key`. Entries never change, so they are read once."""
        if key not in self._read:
            self._read[key] = self.store.get_record(key, Deployment)
        return self._read[key]

    def at(self, time: datetime) -> Deployment | None:
        """The decision that was in force at `time`, None before the first."""
        earlier = [key for key in self._keys() if manifest.ledger_time(key) <= time]
        return self.entry(earlier[-1]) if earlier else None

    def rollback_target(self) -> str | None:
        """The version that was live before the current one and is not revoked; None where only the base model is left.

        A rollback goes back along the deployments, and the next one goes on from there: never forth again.
        """
        before: list[str | None] = []
        for entry in reversed(self.entries()):
            if entry.action == "rollback" and entry.version in before:
                del before[_last(before, entry.version) :]
            before.append(entry.version)
        live = before.pop() if before else None
        candidates = (version for version in reversed(before) if version is not None and version != live)
        return next((version for version in candidates if not self._revoked(version)), None)

    def _revoked(self, version: str) -> bool:
        return self.store.exists(manifest.adapter_key(version, manifest.REVOKED))

    def _keys(self) -> list[str]:
        return sorted(stored.key for stored in self.store.list(manifest.LEDGER))

    def _lags(self, newest: Deployment) -> bool:
        """Never true of a pointer that somebody has moved on meanwhile. One that cannot be read is written anew."""
        try:
            return self.store.get_record(manifest.CURRENT, Deployment).at < newest.at
        except (NotFound, IntegrityError, RecordError):
            return True


def _last(versions: list[str | None], version: str | None) -> int:
    return len(versions) - 1 - versions[::-1].index(version)


def _same_decision(one: Deployment, other: Deployment) -> bool:
    return (one.run, one.action, one.version, one.adapter_name) == (
        other.run,
        other.action,
        other.version,
        other.adapter_name,
    )
