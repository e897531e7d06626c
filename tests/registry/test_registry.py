"""Publishing: one version per run, complete or absent, whatever fails and whoever else publishes."""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import yaml

from demo.object_store import ObjectStore
from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.registry.audit import audit
from learning_engine.registry.draft import Claim
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.object_stores import client_of, new_bucket
from tests.registry.work import SHAPE, chain, stage, week, with_reservoir


def test_a_chain_is_listed_with_its_lineage(store: Store, registry: Registry) -> None:
    made = chain(store, registry, 3)
    assert [(v.version, v.parent) for v in made] == [("v1.0", None), ("v1.1", "v1.0"), ("v1.2", "v1.1")]
    again = Registry(store)
    assert again.versions() == made
    assert again.numbers() == ["v1.0", "v1.1", "v1.2"]
    assert [v.version for v in again.lineage("v1.2")] == ["v1.2", "v1.1", "v1.0"]
    assert again.lineage(None) == []
    assert again.find("run1") == made[1]
    assert again.find("other") is None


def test_a_version_does_not_depend_on_its_run_s_staging(store: Store, registry: Registry) -> None:
    work = stage(store, "run0", week(0))
    version = work.publish(registry)
    store.delete([stored.key for stored in store.list("runs/")])
    assert store.digest(store.key(version.uri)) == version.sha256 == work.draft.sha256
    assert store.get_bytes(store.key(str(version.heldout_uri))).startswith(b"heldout.parquet of run0")
    probes = version.report.probes
    assert probes is not None
    assert store.get_bytes(store.key(probes.uri), probes.sha256).startswith(b"probes.json of run0")
    assert all("/runs/" not in uri for uri in (version.uri, str(version.heldout_uri), probes.uri))
    assert AdapterVersion.from_json(store.get_json("adapters/v1.0/metadata.json")) == version
    assert store.get_bytes("adapters/v1.0/README.md").decode().count("# v1.0") == 1
    assert audit(store, registry) == []


def test_the_reservoir_is_copied_to_its_version(mock_store: Store, mock_registry: Registry) -> None:
    assert stage(mock_store, "run0", week(0)).publish(mock_registry).replay_uri is None
    version = with_reservoir(mock_store, stage(mock_store, "run1", week(1), "v1.0")).publish(mock_registry)
    assert version.replay_uri == mock_store.uri("replay/v1.1/replay.parquet")
    assert mock_store.get_bytes("replay/v1.1/replay.parquet") == b"rows of run1"
    body = version.to_json()
    del body["replay_uri"], body["training"]["replayed"]  # as in metadata written before replay existed
    assert AdapterVersion.from_json(body) == dataclasses.replace(version, replay_uri=None)


def test_a_version_without_heldout_rows_and_probes_is_published(mock_store: Store, mock_registry: Registry) -> None:
    work = stage(mock_store, "run0", week(0))
    draft = dataclasses.replace(work.draft, report=dataclasses.replace(work.draft.report, probes=None))
    version = mock_registry.publish(draft, archive=work.archive, heldout=None)
    assert (version.heldout_uri, version.report.probes) == (None, None)
    assert audit(mock_store, mock_registry) == []


def test_the_same_run_is_published_once(store: Store, registry: Registry) -> None:
    work = stage(store, "run0", week(0))
    assert work.publish(registry) == work.publish(Registry(store, settle_seconds=0))
    assert registry.numbers() == ["v1.0"]


class Crash(Exception):
    """The worker dies in the middle of publishing."""


@contextmanager
def crash_after(client: Any, writes: int) -> Iterator[None]:
    """Let `writes` writes pass, then raise Crash before the next one; suppress the Crash at the end of the block."""
    left = iter(range(writes))

    def die(**_: Any) -> None:
        if next(left, None) is None:
            raise Crash

    events = ("before-send.s3.PutObject", "before-send.s3.CopyObject")
    for event in events:
        client.meta.events.register(event, die, unique_id=event)
    try:
        with suppress(Crash):
            yield
    finally:
        for event in events:
            client.meta.events.unregister(event, unique_id=event)


def test_the_retry_after_a_crash_before_any_write_completes_the_version(moto: ObjectStore) -> None:
    """No version is listed until it is complete, and the retry completes it under the same number."""
    for writes in range(100):
        store = new_bucket(moto)
        work = stage(store, "run0", week(0))
        with crash_after(store.client, writes):
            work.publish(Registry(store, settle_seconds=0))
            break
        assert Registry(store).versions() == []
        assert store.exists("adapters/v1.0/claim-run0.json") == (writes > 0)
        assert work.publish(Registry(store, settle_seconds=0)).version == "v1.0"
        assert audit(store, Registry(store)) == []
    assert writes == 6


def test_a_lost_response_costs_no_version_number(mock_store: Store, mock_registry: Registry) -> None:
    """The store has written the object, the response is lost, and the client retries on its own."""
    work = stage(mock_store, "run0", week(0))
    seen: list[int] = []

    def lose_the_first_response(attempts: int, **_: Any) -> int | None:
        seen.append(attempts)
        return 0 if attempts == 1 else None

    mock_store.client.meta.events.register("needs-retry.s3.PutObject", lose_the_first_response)
    assert work.publish(mock_registry).version == "v1.0"
    assert mock_registry.numbers() == ["v1.0"]
    assert seen == [1, 2] * 3


def test_another_run_s_claim_is_respected(store: Store, registry: Registry) -> None:
    stopped = stage(store, "stopped", week(0))
    with crash_after(store.client, 2):
        stopped.publish(registry)
    assert store.exists("adapters/v1.0/claim-stopped.json")
    assert stage(store, "other", week(0)).publish(registry).version == "v1.1"
    assert stopped.publish(registry).version == "v1.0"
    assert audit(store, registry) == []


def race(server: ObjectStore, store: Store, settle_seconds: float, runs: int) -> list[AdapterVersion]:
    works = [stage(store, f"run{number}", week(0)) for number in range(runs)]
    start = threading.Barrier(runs)

    def publish(work: Any) -> AdapterVersion:
        own = Store(client_of(server), store.bucket, store.prefix)
        start.wait()
        return work.publish(Registry(own, settle_seconds=settle_seconds))

    with ThreadPoolExecutor(runs) as pool:
        return list(pool.map(publish, works))


def test_concurrent_publishers_get_different_numbers_on_an_atomic_store(moto: ObjectStore) -> None:
    store = new_bucket(moto)
    made = race(moto, store, 0, runs=4)
    assert len({v.version for v in made}) == 4
    assert {v.run_key: v for v in Registry(store).versions()} == {v.run_key: v for v in made}
    assert audit(store, Registry(store)) == []


def test_concurrent_publishers_get_different_numbers_on_a_store_that_is_not_atomic(swift: ObjectStore) -> None:
    store = new_bucket(swift)
    made = race(swift, store, 0, runs=4)
    assert len({v.version for v in made}) == 4
    assert sorted(v.run_key for v in Registry(store).versions()) == ["run0", "run1", "run2", "run3"]
    assert audit(store, Registry(store)) == []


def put_claim(store: Store, number: str, run_key: str, base_model: str = "tiny-llama") -> None:
    claim = Claim(run_key, base_model, "abc", SHAPE)
    store.put_json(f"adapters/{number}/{manifest.claim_name(run_key)}", claim.to_json())


@pytest.mark.parametrize(("rival", "expected"), [("theirs", "v1.1"), ("a-rival", "v1.2")])
def test_a_number_that_two_runs_claim_stays_unused(mock_store: Store, rival: str, expected: str) -> None:
    """Each skips as many numbers as there are rivals with a smaller run key, so that they do not collide again."""
    put_claim(mock_store, "v1.0", "ours")
    put_claim(mock_store, "v1.0", rival)
    registry = Registry(mock_store, settle_seconds=0)
    assert stage(mock_store, "ours", week(0)).publish(registry).version == expected
    assert registry.numbers() == [expected]


def test_a_number_that_two_families_claim_belongs_to_neither(mock_store: Store, mock_registry: Registry) -> None:
    put_claim(mock_store, "v1.0", "ours")
    put_claim(mock_store, "v1.0", "theirs", base_model="another")
    assert stage(mock_store, "ours", week(0)).publish(mock_registry).version == "v2.0"


@pytest.mark.parametrize("harm", [b"{", b'{"record": "Claim", "schema": 9}'])
def test_an_unreadable_claim_costs_only_its_number(mock_store: Store, mock_registry: Registry, harm: bytes) -> None:
    stage(mock_store, "run0", week(0)).publish(mock_registry)
    mock_store.put_bytes("adapters/v1.1/claim-stopped.json", harm)
    assert stage(mock_store, "run1", week(1), "v1.0").publish(mock_registry).version == "v1.2"


def test_metadata_of_another_run_is_never_overwritten(mock_store: Store, mock_registry: Registry) -> None:
    theirs = stage(mock_store, "theirs", week(0)).publish(mock_registry)
    work = stage(mock_store, "ours", week(0))
    registry = Registry(mock_store, settle_seconds=0)
    claim, numbers = registry._claim, iter([manifest.VersionNumber(1, 0)])
    registry._claim = lambda draft: next(numbers, None) or claim(draft)  # type: ignore[method-assign]
    assert work.publish(registry).version == "v1.1"
    assert Registry(mock_store).get("v1.0") == theirs


@pytest.mark.parametrize("name", ["adapter.tar.gz", "probes.json"])
def test_a_modified_staged_object_is_not_published(mock_store: Store, mock_registry: Registry, name: str) -> None:
    work = stage(mock_store, "run0", week(0))
    mock_store.put_bytes(manifest.run_key("run0", name), b"something else")
    with pytest.raises(IntegrityError, match=rf"runs/run0/{name}: expected sha256"):
        work.publish(mock_registry)
    assert mock_registry.versions() == []


def test_an_unknown_version_is_refused(mock_registry: Registry) -> None:
    for name in ("v1.0", "v9.9"):
        with pytest.raises(RegistryError, match=f"found no {name}"):
            mock_registry.get(name)
    with pytest.raises(RegistryError, match=r"such as v1\.3"):
        mock_registry.get("../v1.0")
    with pytest.raises(RegistryError, match="found no"):
        mock_registry.revoke("v1.0", by="ada", reason="x")


def test_foreign_objects_are_ignored(mock_store: Store, mock_registry: Registry) -> None:
    mock_store.put_bytes("adapters/notes/metadata.json", b"{}")
    mock_store.put_bytes("adapters/metadata.json", b"{}")
    assert mock_registry.versions() == []


def test_the_card_shows_verdict_rules_and_parent(mock_store: Store, mock_registry: Registry) -> None:
    stage(mock_store, "run0", week(0)).publish(mock_registry)
    stage(mock_store, "run1", week(1), "v1.0", accepted=False).publish(mock_registry)
    text = mock_store.get_bytes("adapters/v1.1/README.md").decode()
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "tiny-llama"
    assert front["library_name"] == "peft"
    assert {"lora", "rejected"} <= set(front["tags"])
    assert "| ✅ | learned | 0.25 | ≥ 0 |" in text
    assert r"| ❌ | kept | – | ≥ 0.2 | no held-out set \| of v1.0 |" in text
    assert "continues **v1.0**" in text
    assert "| v1.0's window | 1.3 | 2 | 1.25 | – | 93 % | – |" in text
    assert "dropped: unreadable | 10 |" in text
