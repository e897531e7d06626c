"""The versions of one served model: list them, find parents, publish, revoke.

A version is immutable and exists once its metadata.json does. Publishing writes that object last and only if absent, so
a crash between any two writes leaves no version, and the retry completes it under the same number. Concurrent runs
get different numbers (`claims`), so that neither overwrites the other's objects.
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
        """One version's metadata, cached, since they never change. Raises RegistryError if there is no such version."""
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
        """The name of every published version, lowest number first; reads no metadata."""
        return [str(number) for number in claims.published(claims.listing_of(self.store))]

    def find(self, run_key: str) -> AdapterVersion | None:
        """The version published under this run key, if any."""
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
        """The version that a training on `window` continues; None for the base model.

        Candidates have the same base and LoRA shape, were accepted by the gate or vouched for by a person, and neither
        they nor an ancestor are revoked. Of these, the one with the latest window end at or before `window.start`
        (ties: the highest number). `base_revision` None accepts any revision.
        """
        listing = claims.listing_of(self.store)
        eligible = [
            version
            for version in self._read_all(listing)
            if (version.accepted or manifest.VOUCHED in listing[_number(version)])
            and version.window.end <= window.start
            and (version.base_model, version.lora) == (base_model, lora)
            and base_revision in (None, version.base_revision)
            and not any(manifest.REVOKED in listing[_number(ancestor)] for ancestor in self.lineage(version.version))
        ]
        return max(eligible, key=lambda version: (version.window.end, _number(version)), default=None)

    def continuable(self, version: AdapterVersion | None) -> tuple[AdapterVersion | None, list[str]]:
        """`version` or its nearest ancestor with an intact archive (None: the base model), and the versions passed over
        because their archive is missing or modified.

        Every version on this path was accepted or vouched for, since no other version becomes a parent.
        """
        passed_over: list[str] = []
        for candidate in self.lineage(version.version if version else None):
            if self.readable(candidate):
                return candidate, passed_over
            passed_over.append(candidate.version)
        return None, passed_over

    def readable(self, version: AdapterVersion) -> bool:
        """Whether the archive is intact; reads all of its bytes."""
        try:
            found: str | None = self.store.digest(self.store.key(version.uri))
        except NotFound:
            found = None
        if found != version.sha256:
            telemetry.warning("registry.unreadable", archive=version.uri, expected=version.sha256, found=found)
        return found == version.sha256

    def revoke(self, version: str, *, by: str, reason: str) -> Revocation:
        """Bar `version` from being a parent and from automatic deployment. The first revocation stays in force."""
        self.get(version)
        revocation = Revocation(version, by, reason, datetime.now(UTC))
        self.store.put_if_absent(manifest.adapter_key(version, manifest.REVOKED), encode(revocation.to_json()))
        return self.revoked(version) or revocation

    def vouch(self, version: str, *, by: str, reason: str) -> None:
        """Allow `version` to be a parent although the gate rejected it. The first vouch stays in force."""
        vouch = Vouch(version, by, reason, datetime.now(UTC))
        self.store.put_if_absent(manifest.adapter_key(version, manifest.VOUCHED), encode(vouch.to_json()))

    def is_revoked(self, version: str) -> bool:
        """Whether the version is revoked, even if the record of it cannot be read."""
        return self.store.exists(manifest.adapter_key(version, manifest.REVOKED))

    def revoked(self, version: str) -> Revocation | None:
        try:
            return self.store.get_record(manifest.adapter_key(version, manifest.REVOKED), Revocation)
        except NotFound:
            return None

    def publish(self, draft: Draft, *, archive: str, heldout: str | None, replay: str | None = None) -> AdapterVersion:
        """Publish the staged archive, held-out set, reservoir and probes (URIs) as a version; return the existing
        version if the run key already has one.

        Raises ParentMoved if `draft.parent` is no longer the right parent, IntegrityError if a staged object differs
        from its record.
        """
        if existing := self.find(draft.run_key):
            if existing.accepted != draft.accepted:
                raise RegistryError(
                    f"Expected the verdict with which {existing.version} was published, found another verdict for the "
                    "same run key: a version is immutable; clear the run from extract to publish a new version."
                )
            return existing
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
        parent, _ = self.continuable(
            self.parent_for(
                draft.dataset.asked or draft.window,
                base_model=draft.base_model,
                base_revision=draft.base_revision,
                lora=draft.lora,
            )
        )
        expected = parent.version if parent else None
        if expected != draft.parent:
            raise ParentMoved(
                f"Expected {expected or 'the base model'} as the parent of the window {draft.window}, found a "
                f"candidate that continues {draft.parent or 'the base model'}: a version was published, revoked or "
                "lost meanwhile; clear this run from its first task."
            )

    def _claim(self, draft: Draft) -> VersionNumber:
        """Reserve a number; one that an earlier attempt of the same run reserved is used first."""
        claim = Claim(draft.run_key, draft.base_model, draft.base_revision, draft.lora)
        for _ in range(CLAIM_TRIES):
            listing = claims.listing_of(self.store)
            if own := claims.own_number(listing, draft.run_key):
                return own
            versions = {_number(version): Family.of(version) for version in self._read_all(listing)}
            claims.put_claim(self.store, listing, versions, claim)
            time.sleep(self.settle_seconds)
        raise _no_number()

    def _complete(
        self, draft: Draft, number: str, *, archive: str, heldout: str | None, replay: str | None
    ) -> AdapterVersion:
        """Write all objects of the version except the metadata."""
        key = manifest.adapter_key(number, manifest.ARCHIVE)
        self._copy_staged(archive, key, draft.sha256)
        if heldout is not None:
            self._copy_staged(heldout, manifest.heldout_key(number), None)
        if replay is not None:
            self._copy_staged(replay, manifest.replay_key(number), None)
        version = AdapterVersion(
            version=number,
            uri=self.store.uri(key),
            heldout_uri=self.store.uri(manifest.heldout_key(number)) if heldout else None,
            replay_uri=self.store.uri(manifest.replay_key(number)) if replay else None,
            created_at=datetime.now(UTC),
            **{field.name: getattr(draft, field.name) for field in dataclasses.fields(draft)},
        )
        if draft.report.probes is not None:
            probes = self._copy_probes(draft.report.probes, number)
            version = dataclasses.replace(version, report=dataclasses.replace(draft.report, probes=probes))
        self.store.put_bytes(manifest.adapter_key(number, manifest.CARD), card.render(version).encode())
        return version

    def _copy_probes(self, staged: Probes, number: str) -> Probes:
        key = manifest.adapter_key(number, manifest.PROBES)
        self._copy_staged(staged.uri, key, staged.sha256)
        return dataclasses.replace(staged, uri=self.store.uri(key))

    def _copy_staged(self, staged: str, key: str, sha256: str | None) -> None:
        """Copy a staged object within the store and check the copy's digest."""
        source = self.store.key(staged)
        with staged_by_run():
            self.store.copy(source, key)
        expected, found = sha256 or self.store.head(source).sha256, self.store.digest(key)
        if expected and expected != found:
            raise IntegrityError(f"{staged}: expected sha256 {expected}, found {found}; clear the run from train.")

    def _read_all(self, listing: claims.Listing) -> list[AdapterVersion]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self.get, map(str, claims.published(listing))))


def _no_number() -> RegistryError:
    return RegistryError(
        f"Expected a free version number, found {CLAIM_TRIES} in a row taken by other runs: check the registry pool."
    )


def _number(version: AdapterVersion) -> VersionNumber:
    return VersionNumber.parse(version.version)
