"""The deployment ledger: one append-only entry per decision, and the pointer, a copy of the newest entry.

Clients that want one fixed key read the pointer, current.json. An entry is written before the pointer moves to it. A
pointer behind the ledger is therefore repaired from the ledger, and a pointer without its entry proves that the entry
was lost, so the entry is restored from it. The exception is a pointer in the future: someone has deleted an entry
that a wrong clock had produced, so the ledger counts. One task at a time writes entries (an Airflow pool of one slot).
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
# The allowed clock difference between two workers, and the allowed time between a decision's two writes.
SKEW = timedelta(minutes=1)


class Ledger:
    """The deployments in one store; safe to share among threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, Deployment] = {}

    def record(self, deployment: Deployment) -> Deployment:
        """Append a decision and move the pointer; return the entry as stored.

        Its time is always later than the newest entry's, even if the worker's clock is wrong. Nothing is appended if
        the newest entry is the same decision of the same run; `recorded` finds a decision that others have followed.
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
            raise RegistryError(f"Expected to append to the ledger, found {TRIES} keys taken: check the registry pool.")
        self.current()
        return entry

    def recorded(self, deployment: Deployment) -> Deployment | None:
        """The entry of this deployment, even if others have followed it; None if there is none.

        A run that is cleared from `deploy` loads the version again, after other entries: that is a new decision.
        """
        same = (entry for entry in self.entries() if _same_decision(entry, deployment))
        return next((entry for entry in same if entry.follows == deployment.follows), None)

    def current(self) -> Deployment | None:
        """The newest decision, None before the first deployment. Repairs the pointer, or restores a lost newest entry.

        Raises IntegrityError if the newest entry cannot be read.
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
        """Like `current`, but writes nothing."""
        keys = self._keys()
        return self.entry(keys[-1]) if keys else None

    def entries(self) -> list[Deployment]:
        """Every readable decision, newest first."""
        return self.history()[0]

    def history(self) -> tuple[list[Deployment], list[str]]:
        """Every readable decision, newest first, and the keys of the unreadable ones.

        Raises IntegrityError if the newest entry cannot be read, since the live version is then unknown.
        """
        keys = self._keys()[::-1]
        newest = [self.entry(key) for key in keys[:1]]
        older = self._read_all(keys[1:])
        unreadable = {key: why for key, why in older.items() if isinstance(why, str)}
        for key, why in unreadable.items():
            telemetry.warning("ledger.unreadable", entry=self.store.uri(key), message=why)
        return [*newest, *(entry for entry in older.values() if not isinstance(entry, str))], list(unreadable)

    def entry(self, key: str) -> Deployment:
        """The decision under `key`, cached, since entries never change."""
        if key not in self._read:
            try:
                self._read[key] = self.store.get_record(key, Deployment)
            except IntegrityError as error:
                raise IntegrityError(
                    f"{error} Restore this ledger entry from your backup. Without a backup: if it is the newest entry, "
                    "delete it, and it is restored from the pointer; if it is older, deploy the version you want by "
                    "name."
                ) from error
        return self._read[key]

    def at(self, time: datetime) -> Deployment | None:
        """The decision in force at `time`; None before the first."""
        earlier = [key for key in self._keys() if manifest.ledger_time(key) <= time]
        return self.entry(earlier[-1]) if earlier else None

    def versions(self) -> set[str]:
        """Every version that was ever live, taken from the keys without reading an entry."""
        return {version for key in self._keys() if (version := manifest.ledger_version(key))}

    def rollback_target(self) -> str | None:
        """The last version before the live one that is not revoked; None if only the base model is left.

        Successive rollbacks go further back; none returns to a version that was rolled back from. Only the entries
        that decide this are read, so that other corrupt entries block no rollback.
        """
        keys = self._keys()
        versions = (manifest.ledger_version(keys[place]) for place in self._rollback_path(keys))
        live = next(versions, None)
        candidates = (version for version in versions if version is not None and version != live)
        return next((version for version in candidates if not self._revoked(version)), None)

    def _rollback_path(self, keys: list[str]) -> Iterator[int]:
        """The indices in `keys` of the newest entry and of those that successive rollbacks would lead to."""

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
        """Problems of the entries and the pointer, by key."""
        moment = now or datetime.now(UTC)
        pointer, stored = self._pointer(), self._stored()
        found = self._read_all(stored)
        readable = {key: entry for key, entry in found.items() if not isinstance(entry, str)}
        pairs = [(older, newer) for older, newer in pairwise(stored) if readable.keys() >= {older, newer}]
        problems = {newer: gap for older, newer in pairs if (gap := _gap(readable[older], readable[newer]))}
        problems |= {key: _in_future(entry.at - moment) for key, entry in readable.items() if entry.at > moment + SKEW}
        problems |= {key: why for key, why in found.items() if isinstance(why, str)}
        if pointer is not None and (lost := _key_of_lost(pointer, stored, moment)):
            problems[lost] = f"missing, known only from {manifest.CURRENT}: the reconcile DAG restores it"
        elif stored and stored[-1] in readable and (problem := _of_pointer(pointer, readable[stored[-1]], moment)):
            problems[manifest.CURRENT] = problem
        return problems

    def _revoked(self, version: str) -> bool:
        return self.store.exists(manifest.adapter_key(version, manifest.REVOKED))

    def _keys(self) -> list[str]:
        """The key of every decision, oldest first, including the pointer's if its entry is lost."""
        pointer = self._pointer()
        stored = self._stored()
        if pointer is None or (lost := _key_of_lost(pointer, stored, datetime.now(UTC))) is None:
            return stored
        self._read[lost] = pointer
        return sorted([*stored, lost])

    def _stored(self) -> list[str]:
        """The keys in the store. Call it after `_pointer`: an entry is written before the pointer moves to it."""
        return sorted(item.key for item in self.store.list(manifest.LEDGER) if manifest.is_ledger_key(item.key))

    def _pointer(self) -> Deployment | None:
        """The pointer; None if it is missing or unreadable, in which case it is rewritten."""
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
    """The key of the pointer's entry if that entry is lost."""
    key = manifest.ledger_key(pointer.at, pointer.version)
    return None if key in stored or pointer.at > now + SKEW else key


def _in_future(by: timedelta) -> str:
    return f"its time is {by} in the future: correct the clock of the worker that wrote it"


def _gap(older: Deployment, newer: Deployment) -> str | None:
    """The problem if `newer` does not follow `older`."""
    expected = older.previous if older.version == newer.version else older.version
    if newer.previous == expected:
        return None
    return (
        f"it replaced {newer.previous or 'nothing'}, but the entry before it deployed {older.version or 'the base'}: "
        "an entry between them is lost; restore it from your backup"
    )


def _of_pointer(pointer: Deployment | None, newest: Deployment, now: datetime) -> str | None:
    """The problem of the pointer; None also while it is about to move to `newest`."""
    about_to_move = newest.at > now - SKEW and (pointer is None or pointer.at < newest.at)
    if pointer == newest or about_to_move:
        return None
    found = f"{pointer.version or 'the base'} since {pointer.at}" if pointer else "no readable pointer"
    return (
        f"expected {newest.version or 'the base'} since {newest.at}, as in the newest entry, found {found}: "
        "the reconcile DAG rewrites it"
    )


def _same_decision(one: Deployment, other: Deployment) -> bool:
    return (one.run, one.action, one.version, one.adapter_name) == (
        other.run,
        other.action,
        other.version,
        other.adapter_name,
    )
