"""The versions of one served model: which there are, which continues which, and how a new one is published.

A version is immutable and exists once its metadata.json does. Publishing writes that last and only if absent, so a
crash between any two writes leaves no version, and the retry completes it under the same number. Two that publish at
once get two numbers (`claims`), so that neither writes to where the other does.
"""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, ParentMoved, RegistryError
from learning_engine.records.contracts import AdapterVersion, LoraShape, Window
from learning_engine.records.report import Probes
from learning_engine.registry import card, claims, manifest
from learning_engine.registry.draft import Claim, Draft, Revocation, Vouch
from learning_engine.registry.failures import staged_by_run
from learning_engine.registry.manifest import Family, VersionNumber
from learning_engine.registry.store import NotFound, Store, encode

__all__ = ["Claim", "Draft", "Registry", "Revocation", "Vouch"]

THREADS = 8
CLAIM_TRIES = 16


class Registry:
    """The versions in one store; safe to share among threads."""

    def __init__(self, store: Store, *, settle_seconds: float = 0.5) -> None:
        self.store = store
        self.settle_seconds = settle_seconds
        self._read: dict[str, AdapterVersion] = {}

    def versions(self) -> list[AdapterVersion]:
        """The metadata of every published version, lowest number first."""
        return self._read_all(claims.listing_of(self.store))

    def get(self, version: str) -> AdapterVersion:
        """Raises RegistryError where there is no such version."""
        # Metadata never change, so they are read once.
        if version not in self._read:
            VersionNumber.parse(version)
            try:
                found = self.store.get_record(manifest.adapter_key(version, manifest.METADATA), AdapterVersion)
            except NotFound as error:
                raise RegistryError(
                    f"Expected a published version, found no {version} in {self.store.uri(manifest.ADAPTERS)}"
                ) from error
            self._read[version] = found
        return self._read[version]

    def numbers(self) -> list[str]:
        """Every published version by name, lowest number first; reads no metadata."""
        return [str(number) for number in claims.published(claims.listing_of(self.store))]

    def find(self, run_key: str) -> AdapterVersion | None:
        """The version that this work made, if it has been published."""
        return next((version for version in self.versions() if version.run_key == run_key), None)

    def lineage(self, version: str | None) -> list[AdapterVersion]:
        """`version`, its parent, its parent's parent and so on; empty for None, the base model."""
        chain: list[AdapterVersion] = []
        while version is not None:
            chain.append(self.get(version))
            version = chain[-1].parent
        return chain

    def parent_for(
        self, window: Window, *, base_model: str, base_revision: str | None, lora: LoraShape
    ) -> AdapterVersion | None:
        """The version of the same base and shape that the gate accepted or a person vouched for, not revoked and of no
        revoked ancestor, with the greatest window end at or before `window.start` (ties: the highest number); None
        where the base model is the parent.

        `base_revision` None takes any revision.
        """
        listing = claims.listing_of(self.store)
        fitting = [
            version
            for version in self._read_all(listing)
            if (version.accepted or manifest.VOUCHED in listing[_number(version)])
            and version.window.end <= window.start
            and (version.base_model, version.lora) == (base_model, lora)
            and base_revision in (None, version.base_revision)
            and not any(manifest.REVOKED in listing[_number(ancestor)] for ancestor in self.lineage(version.version))
        ]
        return max(fitting, key=lambda version: (version.window.end, _number(version)), default=None)

    def continuable(self, version: AdapterVersion | None) -> tuple[AdapterVersion | None, list[str]]:
        """`version`, or the nearest of its ancestors whose archive is whole, None for the base model; and the versions
        that were passed over because theirs is lost or altered.

        Every version on the way was accepted or vouched for: others are nobody's parent.
        """
        passed_over: list[str] = []
        for candidate in self.lineage(version.version if version else None):
            if self.readable(candidate):
                return candidate, passed_over
            passed_over.append(candidate.version)
        return None, passed_over

    def readable(self, version: AdapterVersion) -> bool:
        """Whether the archive's bytes are those that were published; reads all of them."""
        try:
            found: str | None = self.store.digest(self.store.key(version.uri))
        except NotFound:
            found = None
        if found != version.sha256:
            telemetry.warning("registry.unreadable", archive=version.uri, expected=version.sha256, found=found)
        return found == version.sha256

    def revoke(self, version: str, *, by: str, reason: str) -> Revocation:
        """Nobody's parent from now on, and never deployed by itself. The first revocation stands."""
        self.get(version)
        revocation = Revocation(version, by, reason, datetime.now(UTC))
        self.store.put_if_absent(manifest.adapter_key(version, manifest.REVOKED), encode(revocation.to_json()))
        return self.revoked(version) or revocation

    def vouch(self, version: str, *, by: str, reason: str) -> None:
        """May be a parent from now on, whatever the gate said. The first one to vouch stands."""
        vouch = Vouch(version, by, reason, datetime.now(UTC))
        self.store.put_if_absent(manifest.adapter_key(version, manifest.VOUCHED), encode(vouch.to_json()))

    def revoked(self, version: str) -> Revocation | None:
        try:
            return self.store.get_record(manifest.adapter_key(version, manifest.REVOKED), Revocation)
        except NotFound:
            return None

    def publish(self, draft: Draft, *, archive: str, heldout: str | None, replay: str | None = None) -> AdapterVersion:
        """Make the staged archive, held-out set, reservoir and probes (URIs) a version; the same run key again returns
        that one.

        Raises ParentMoved where `draft.parent` is not the right parent any more, IntegrityError where a staged
        object is not what its record says.
        """
        if made := self.find(draft.run_key):
            if made.accepted != draft.accepted:
                raise RegistryError(
                    f"Expected the verdict under which {made.version} was published, found another one for the same "
                    "work: a version is immutable; clear the run from extract, and a new version is made."
                )
            return made
        self._check_parent(draft)
        for _ in range(CLAIM_TRIES):
            number = str(self._claim(draft))
            version = self._complete(draft, number, archive=archive, heldout=heldout, replay=replay)
            self.store.put_if_absent(manifest.adapter_key(number, manifest.METADATA), encode(version.to_json()))
            published = self.get(number)
            if published.run_key == draft.run_key:
                return published
            telemetry.event("publish.number_lost", version=number, run_key=draft.run_key)
        raise _no_number()

    def _check_parent(self, draft: Draft) -> None:
        right, _ = self.continuable(
            self.parent_for(
                draft.dataset.asked or draft.window,
                base_model=draft.base_model,
                base_revision=draft.base_revision,
                lora=draft.lora,
            )
        )
        expected = right.version if right else None
        if expected != draft.parent:
            raise ParentMoved(
                f"Expected {expected or 'the base model'} as the parent of the window {draft.window}, found a "
                f"candidate that continues {draft.parent or 'the base model'}: a version was published, revoked or "
                "lost since; clear this run from its first task."
            )

    def _claim(self, draft: Draft) -> VersionNumber:
        """Reserve a number; the one that an earlier try of the same work reserved comes first."""
        claim = Claim(draft.run_key, draft.base_model, draft.base_revision, draft.lora)
        for _ in range(CLAIM_TRIES):
            listing = claims.listing_of(self.store)
            if own := claims.own_number(listing, draft.run_key):
                return own
            versions = {_number(version): Family.of(version) for version in self._read_all(listing)}
            claims.mark(self.store, listing, versions, claim)
            time.sleep(self.settle_seconds)
        raise _no_number()

    def _complete(
        self, draft: Draft, number: str, *, archive: str, heldout: str | None, replay: str | None
    ) -> AdapterVersion:
        """Put everything but the metadata into place."""
        key = manifest.adapter_key(number, manifest.ARCHIVE)
        self._take(archive, key, draft.sha256)
        if heldout is not None:
            self._take(heldout, manifest.heldout_key(number), None)
        if replay is not None:
            self._take(replay, manifest.replay_key(number), None)
        version = AdapterVersion(
            version=number,
            uri=self.store.uri(key),
            heldout_uri=self.store.uri(manifest.heldout_key(number)) if heldout else None,
            replay_uri=self.store.uri(manifest.replay_key(number)) if replay else None,
            created_at=datetime.now(UTC),
            **{field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)},
        )
        if draft.report.probes is not None:
            probes = self._take_probes(draft.report.probes, number)
            version = dataclasses.replace(version, report=dataclasses.replace(draft.report, probes=probes))
        self.store.put_bytes(manifest.adapter_key(number, manifest.CARD), card.render(version).encode())
        return version

    def _take_probes(self, staged: Probes, number: str) -> Probes:
        key = manifest.adapter_key(number, manifest.PROBES)
        self._take(staged.uri, key, staged.sha256)
        return dataclasses.replace(staged, uri=self.store.uri(key))

    def _take(self, staged: str, key: str, sha256: str | None) -> None:
        """Copy a staged object inside the store and read back that it is what it was."""
        source = self.store.key(staged)
        with staged_by_run():
            self.store.copy(source, key)
        expected, found = sha256 or self.store.head(source).sha256, self.store.digest(key)
        if expected and expected != found:
            raise IntegrityError(f"{staged}: expected sha256 {expected}, found {found}; clear the run from train on.")

    def _read_all(self, listing: claims.Listing) -> list[AdapterVersion]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self.get, map(str, claims.published(listing))))


def _no_number() -> RegistryError:
    return RegistryError(f"Expected a free version number, lost {CLAIM_TRIES} to other runs: check the registry pool.")


def _number(version: AdapterVersion) -> VersionNumber:
    return VersionNumber.parse(version.version)
