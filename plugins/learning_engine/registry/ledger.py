"""What was live when: an append-only ledger, one object per decision, and the pointer, which repeats the newest one.

Readers that want one fixed key read the pointer, current.json. An entry is written before the pointer moves to it. So a
pointer that lags behind is mended from the ledger, and a pointer whose entry is not there shows that the entry was
lost: it is put back from the pointer. Only a pointer that lies in the future is not believed against the ledger:
somebody has taken away an entry that a wrong clock had made. Entries are written by one task at a time (an Airflow pool
of one slot).
"""

import dataclasses
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import Deployment
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound, Store, encode

THREADS = 8
TICK = timedelta(microseconds=1)
TRIES = 16
# By how much the clocks of two workers may differ, and how long a decision may take between its two writes.
SKEW = timedelta(minutes=1)


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
        """The newest decision, None before the first deployment; puts the pointer right, and back what it alone holds.

        Raises IntegrityError where the newest entry cannot be read.
        """
        pointer, now = self._pointer(), datetime.now(UTC)
        stored = self._stored()
        if pointer is not None and (lost := _key_of_lost(pointer, stored, now)):
            telemetry.warning("ledger.entry_restored", entry=self.store.uri(lost), source=manifest.CURRENT)
            self.store.put_if_absent(lost, encode(pointer.to_json()))
            stored = sorted([*stored, lost])
        newest = self.entry(stored[-1]) if stored else None
        if newest is not None and pointer != newest:
            self.store.put_json(manifest.CURRENT, newest.to_json())
        if newest is not None and newest.at > now + SKEW:
            telemetry.warning("ledger.in_the_future", entry=self.store.uri(stored[-1]), now=now)
        return newest

    def newest(self) -> Deployment | None:
        """As `current`, for those who only look: nothing is written."""
        keys = self._keys()
        return self.entry(keys[-1]) if keys else None

    def entries(self) -> list[Deployment]:
        """Every decision that can be read, newest first."""
        return self.history()[0]

    def history(self) -> tuple[list[Deployment], list[str]]:
        """Every decision, newest first, and the keys of older ones that cannot be read.

        Raises IntegrityError where the newest cannot be: then nobody knows what is live.
        """
        keys = self._keys()[::-1]
        newest = [self.entry(key) for key in keys[:1]]
        older = self._read_all(keys[1:])
        unreadable = {key: why for key, why in older.items() if isinstance(why, str)}
        for key, why in unreadable.items():
            telemetry.warning("ledger.unreadable", entry=self.store.uri(key), message=why)
        return [*newest, *(entry for entry in older.values() if not isinstance(entry, str))], list(unreadable)

    def entry(self, key: str) -> Deployment:
        """The decision under `key`. Entries never change, so they are read once."""
        if key not in self._read:
            try:
                self._read[key] = self.store.get_record(key, Deployment)
            except IntegrityError as error:
                raise IntegrityError(
                    f"{error} Restore this entry of the ledger from your backup. Without one: delete it if it is the "
                    "newest, and the pointer puts it back; if it is older, put the version that you want live by name."
                ) from error
        return self._read[key]

    def at(self, time: datetime) -> Deployment | None:
        """The decision that was in force at `time`, None before the first."""
        earlier = [key for key in self._keys() if manifest.ledger_time(key) <= time]
        return self.entry(earlier[-1]) if earlier else None

    def versions(self) -> set[str]:
        """Every version that was ever live; reads no entry."""
        return {version for key in self._keys() if (version := manifest.ledger_version(key))}

    def rollback_target(self) -> str | None:
        """The version that was live before the current one and is not revoked; None where only the base model is left.

        A rollback goes back along the deployments, and the next one goes on from there: never forth again. Reads only
        the entries that decide it, so that damage to others blocks no rollback.
        """
        keys = self._keys()
        way_back = (manifest.ledger_version(keys[place]) for place in self._way_back(keys))
        live = next(way_back, None)
        candidates = (version for version in way_back if version is not None and version != live)
        return next((version for version in candidates if not self._revoked(version)), None)

    def _way_back(self, keys: list[str]) -> Iterator[int]:
        """The places in `keys` of the newest entry and of those that rollbacks would lead to from there."""

        @functools.cache
        def before(place: int) -> int:
            entry = self.entry(keys[place])
            earlier = place - 1
            while entry.action == "rollback" and earlier >= 0:
                if manifest.ledger_version(keys[earlier]) == entry.version:
                    return before(earlier)
                earlier = before(earlier)
            return place - 1

        place = len(keys) - 1
        while place >= 0:
            yield place
            place = before(place)

    def problems(self, now: datetime | None = None) -> dict[str, str]:
        """What is wrong with the entries and the pointer, by key."""
        moment = now or datetime.now(UTC)
        pointer, stored = self._pointer(), self._stored()
        found = self._read_all(stored)
        whole = {key: entry for key, entry in found.items() if not isinstance(entry, str)}
        pairs = [(older, newer) for older, newer in pairwise(stored) if whole.keys() >= {older, newer}]
        problems = {newer: gap for older, newer in pairs if (gap := _gap(whole[older], whole[newer]))}
        problems |= {key: _ahead(entry.at - moment) for key, entry in whole.items() if entry.at > moment + SKEW}
        problems |= {key: why for key, why in found.items() if isinstance(why, str)}
        if pointer is not None and (lost := _key_of_lost(pointer, stored, moment)):
            problems[lost] = f"missing: {manifest.CURRENT} alone still says it; the reconcile DAG puts it back"
        elif stored and stored[-1] in whole and (wrong := _wrong(pointer, whole[stored[-1]], moment)):
            problems[manifest.CURRENT] = wrong
        return problems

    def _revoked(self, version: str) -> bool:
        return self.store.exists(manifest.adapter_key(version, manifest.REVOKED))

    def _keys(self) -> list[str]:
        """Of every decision, oldest first; with the pointer's, where its entry is lost."""
        pointer = self._pointer()
        stored = self._stored()
        if pointer is None or (lost := _key_of_lost(pointer, stored, datetime.now(UTC))) is None:
            return stored
        self._read[lost] = pointer
        return sorted([*stored, lost])

    def _stored(self) -> list[str]:
        """To be called after `_pointer`: an entry is written before the pointer moves to it, so it is there then."""
        return sorted(stored.key for stored in self.store.list(manifest.LEDGER))

    def _pointer(self) -> Deployment | None:
        """None where there is none, and where it cannot be read: then it is written anew."""
        try:
            return self.store.get_record(manifest.CURRENT, Deployment)
        except (NotFound, IntegrityError):
            return None

    def _read_all(self, keys: list[str]) -> dict[str, Deployment | str]:
        """The decision under each key, or why it cannot be read."""

        def read(key: str) -> Deployment | str:
            try:
                return self.entry(key)
            except (NotFound, IntegrityError) as error:
                return str(error)

        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(keys, pool.map(read, keys), strict=True))


def _key_of_lost(pointer: Deployment, stored: list[str], now: datetime) -> str | None:
    """The key of the pointer's entry where that is lost."""
    key = manifest.ledger_key(pointer.at, pointer.version)
    return None if key in stored or pointer.at > now + SKEW else key


def _ahead(by: timedelta) -> str:
    return f"it lies in the future, by {by}: the clock of the worker that wrote it runs ahead; set that clock right"


def _gap(older: Deployment, newer: Deployment) -> str | None:
    """What is wrong where `newer` does not follow `older`."""
    expected = older.previous if older.version == newer.version else older.version
    if newer.previous == expected:
        return None
    return (
        f"it replaced {newer.previous or 'nothing'}, but the entry before it put {older.version or 'the base'} live: "
        "an entry between them is lost; restore it from your backup"
    )


def _wrong(pointer: Deployment | None, newest: Deployment, now: datetime) -> str | None:
    """What is wrong with the pointer; nothing while it is about to move to `newest`."""
    about_to_move = newest.at > now - SKEW and (pointer is None or pointer.at < newest.at)
    if pointer == newest or about_to_move:
        return None
    found = f"{pointer.version or 'the base'} since {pointer.at}" if pointer else "nothing that can be read"
    return (
        f"expected {newest.version or 'the base'} since {newest.at}, as the newest entry says, found {found}; "
        "the reconcile DAG writes it anew"
    )


def _same_decision(one: Deployment, other: Deployment) -> bool:
    return (one.run, one.action, one.version, one.adapter_name) == (
        other.run,
        other.action,
        other.version,
        other.adapter_name,
    )
