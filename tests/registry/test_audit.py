"""The audit names every object that is missing or modified."""

from datetime import timedelta

import pytest

from learning_engine.registry import census, manifest
from learning_engine.registry.audit import audit
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.bucket import keys, measure, sweep
from tests.registry.test_store import corrupt
from tests.registry.work import chain, stage, week, with_reservoir


def test_reservoirs_are_audited(mock_store: Store, mock_registry: Registry) -> None:
    for number, parent in ((0, None), (1, "v1.0")):
        with_reservoir(mock_store, stage(mock_store, f"run{number}", week(number), parent)).publish(mock_registry)
    mock_store.delete(["replay/v1.0/replay.parquet"])
    corrupt(mock_store, "replay/v1.1/replay.parquet", b"other rows")
    missing, modified = audit(mock_store, mock_registry)
    assert str(missing) == mock_store.uri("replay/v1.0/replay.parquet") + ": missing"
    assert modified.uri == mock_store.uri("replay/v1.1/replay.parquet")
    assert "expected sha256" in modified.problem


def delete_metadata(store: Store, number: int) -> str:
    key = f"adapters/v1.{number}/metadata.json"
    store.delete([key])
    return store.uri(key)


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.stack) for number in range(1, 4))])
def test_missing_metadata_is_named(bucket: Store, number: int) -> None:
    uri = delete_metadata(bucket, number)
    (finding,) = [found for found in audit(bucket, Registry(bucket)) if found.uri == uri]
    assert finding.problem.startswith("missing, but the ledger names it")


@pytest.mark.parametrize(
    ("leave", "evidence"),
    [
        ("child", "v1.1 names it as an ancestor"),
        ("revoked", "its revoked.json exists"),
        ("vouched", "its vouched.json exists"),
        ("fisher", "its Fisher information exists"),
    ],
)
def test_missing_metadata_is_named_if_anything_shows_that_it_was_published(
    mock_store: Store, mock_registry: Registry, leave: str, evidence: str
) -> None:
    chain(mock_store, mock_registry, 2 if leave == "child" else 1)
    if leave == "revoked":
        mock_registry.revoke("v1.0", by="ada", reason="wrong facts")
    if leave == "vouched":
        mock_registry.vouch("v1.0", by="ada", reason="good enough")
    if leave == "fisher":
        measure(mock_store, "v1.0")
    uri = delete_metadata(mock_store, 0)
    (finding,) = audit(mock_store, Registry(mock_store))
    assert (finding.uri, finding.problem.partition(":")[0]) == (uri, f"missing, but {evidence}")
    kept = keys(mock_store, "adapters/v1.0/")
    assert sweep(mock_store, 60).skipped["versions"] == 1
    assert keys(mock_store, "adapters/v1.0/") == kept


def test_a_model_card_is_evidence_once_it_is_an_hour_old(
    mock_store: Store, mock_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not earlier, since the retry of a killed publish may still write the metadata."""
    chain(mock_store, mock_registry, 1)
    uri = delete_metadata(mock_store, 0)
    assert audit(mock_store, Registry(mock_store)) == []
    monkeypatch.setattr(census, "PUBLISHING", timedelta(0))
    (finding,) = audit(mock_store, Registry(mock_store))
    assert (finding.uri, finding.problem.partition(":")[0]) == (uri, "missing, but its model card exists")
    assert "claims" not in sweep(mock_store, 60).objects
    assert mock_store.exists("adapters/v1.0/adapter.tar.gz")


def test_a_version_that_lost_all_its_objects_is_named(bucket: Store) -> None:
    bucket.delete([key for key in keys(bucket) if manifest.version_of(key) == "v1.1"])
    assert bucket.uri("adapters/v1.1/metadata.json") in {finding.uri for finding in audit(bucket, Registry(bucket))}


def test_the_ledger_is_audited(bucket: Store) -> None:
    newest, damaged = max(keys(bucket, "deployments/ledger/")), min(keys(bucket, "deployments/ledger/"))
    bucket.delete([newest])
    corrupt(bucket, damaged, b"{}")
    found = {finding.uri: finding.problem for finding in audit(bucket, Registry(bucket))}
    assert set(found) == {bucket.uri(newest), bucket.uri(damaged)}
    assert found[bucket.uri(newest)].startswith("missing")
    assert "expected sha256" in found[bucket.uri(damaged)]


@pytest.mark.parametrize("name", ["adapter.tar.gz", "probes.json", "README.md"])
def test_missing_objects_are_named(mock_store: Store, mock_registry: Registry, name: str) -> None:
    chain(mock_store, mock_registry, 2)
    mock_store.delete([f"adapters/v1.1/{name}", "heldout/v1.0/heldout.parquet"])
    assert [finding.uri for finding in audit(mock_store, mock_registry)] == [
        mock_store.uri(f"adapters/v1.1/{name}"),
        mock_store.uri("heldout/v1.0/heldout.parquet"),
    ]


def test_modified_objects_are_named(real_bucket: Store) -> None:
    modified = [
        "adapters/v1.1/adapter.tar.gz",
        "adapters/v1.2/probes.json",
        "fisher/v1.0/own.safetensors",
        "heldout/v1.3/heldout.parquet",
    ]
    for key in modified:
        corrupt(real_bucket, key, b"other bytes")
    # Rewritten: it matches its own digest, but not the one in the version's record.
    real_bucket.put_bytes("adapters/v1.3/adapter.tar.gz", b"other weights")
    findings = audit(real_bucket, Registry(real_bucket))
    assert [finding.uri for finding in findings] == [
        real_bucket.uri(key) for key in sorted([*modified, "adapters/v1.3/adapter.tar.gz"])
    ]
    assert all("expected sha256" in finding.problem for finding in findings)


def test_the_audit_continues_after_corrupt_metadata(mock_store: Store, mock_registry: Registry) -> None:
    chain(mock_store, mock_registry, 2)
    corrupt(mock_store, "adapters/v1.0/metadata.json", b"{}")
    mock_store.put_json("adapters/v1.1/metadata.json", {"record": "AdapterVersion", "schema": 99})
    problems = [str(finding) for finding in audit(mock_store, Registry(mock_store))]
    assert any("v1.0" in problem and "expected sha256" in problem for problem in problems)
    assert any("v1.1" in problem and "of schema 99" in problem for problem in problems)
