"""Retention deletes expired objects and nothing else."""

from datetime import UTC, datetime

import pytest

from learning_engine.registry.audit import audit
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.retention import Swept
from learning_engine.registry.store import Store
from tests.registry.bucket import keys, measure, sweep
from tests.registry.test_registry import crash_after
from tests.registry.test_store import corrupt
from tests.registry.work import chain, deployment, stage, week, with_reservoir

STACK = pytest.mark.stack


def test_nothing_is_deleted_before_it_expires(bucket: Store) -> None:
    before = keys(bucket)
    assert sweep(bucket, 29) == Swept(False, {}, {})
    assert keys(bucket) == before


def test_a_dry_run_only_counts(bucket: Store) -> None:
    before = keys(bucket)
    swept = sweep(bucket, 200, dry_run=True)
    assert keys(bucket) == before
    assert swept.dry_run
    real = sweep(bucket, 200)
    assert (real.objects, real.bytes) == (swept.objects, swept.bytes)
    assert sum(real.objects.values()) == len(before - keys(bucket))
    assert real.bytes["rejected"] == len("adapter.tar.gz of rejected") * 100


def test_expired_runs_are_deleted(real_bucket: Store) -> None:
    before = keys(real_bucket)
    swept = sweep(real_bucket, 31)
    gone = before - keys(real_bucket)
    # v1.0 and v1.1 have Fisher information; v1.2 is the rollback target, and v1.3 is live.
    assert {key.split("/")[1] for key in gone} == {"run0", "run1", "rejected", "thin"}
    assert swept.objects == {"runs": 3 * 5 + 1} == {"runs": len(gone)}
    assert keys(real_bucket, "runs/run2/") | keys(real_bucket, "runs/run3/") <= before
    assert audit(real_bucket, Registry(real_bucket)) == []


def test_a_snapshot_is_kept_until_fisher_information_is_measured(mock_store: Store, mock_registry: Registry) -> None:
    chain(mock_store, mock_registry, 2)
    stage(mock_store, "twin", week(1), "v1.0").publish(mock_registry)
    mock_registry.revoke("v1.2", by="ada", reason="bad")
    assert sweep(mock_store, 31).objects == {"runs": 4 + 4 + 5}
    assert keys(mock_store, "runs/") == {"runs/run0/dataset.parquet", "runs/run1/dataset.parquet"}
    measure(mock_store, "v1.0")
    assert sweep(mock_store, 31).objects == {"runs": 1}
    assert keys(mock_store, "runs/") == {"runs/run1/dataset.parquet"}


def test_expired_text_is_deleted_and_the_audit_does_not_report_it_missing(bucket: Store) -> None:
    sweep(bucket, 91)
    assert keys(bucket, "heldout/") == set()
    probes = {f"adapters/v1.{number}/probes.json" for number in (2, 3)}
    assert {key for key in keys(bucket, "adapters/") if key.endswith("probes.json")} == probes
    assert set(bucket.get_json("adapters/v1.0/swept.json")["swept"]) == {
        "adapters/v1.0/probes.json",
        "heldout/v1.0/heldout.parquet",
    }
    assert audit(bucket, Registry(bucket)) == []
    bucket.delete(["adapters/v1.3/probes.json"])
    assert [str(finding) for finding in audit(bucket, Registry(bucket))] == [
        bucket.uri("adapters/v1.3/probes.json") + ": missing"
    ]


def test_reservoirs_are_deleted_with_the_text_even_of_the_live_version(
    mock_store: Store, mock_registry: Registry
) -> None:
    for number, parent in ((0, None), (1, "v1.0")):
        with_reservoir(mock_store, stage(mock_store, f"run{number}", week(number), parent)).publish(mock_registry)
    Ledger(mock_store).record(deployment("v1.1", datetime(2026, 10, 1, tzinfo=UTC)))
    reservoirs = {f"replay/v1.{number}/replay.parquet" for number in range(2)}
    assert "replay" not in sweep(mock_store, 89).objects
    assert keys(mock_store, "replay/") == reservoirs
    assert sweep(mock_store, 91).objects["replay"] == 2
    assert keys(mock_store, "replay/") == set()
    assert "replay/v1.1/replay.parquet" in mock_store.get_json("adapters/v1.1/swept.json")["swept"]
    assert audit(mock_store, mock_registry) == []


def test_only_rejected_archives_are_deleted(bucket: Store) -> None:
    sweep(bucket, 91)
    assert sweep(bucket, 181).objects == {"rejected": 1}
    archives = {key for key in keys(bucket, "adapters/") if key.endswith("adapter.tar.gz")}
    assert archives == {f"adapters/v1.{number}/adapter.tar.gz" for number in range(4)}
    assert [version.version for version in Registry(bucket).versions()][-1] == "v1.4"
    assert audit(bucket, Registry(bucket)) == []


def test_a_rejected_version_that_a_person_deployed_is_kept(bucket: Store) -> None:
    Ledger(bucket).record(deployment("v1.4", datetime(2026, 10, 9, tzinfo=UTC), number=9))
    swept = sweep(bucket, 400)
    assert "rejected" not in swept.objects
    assert bucket.exists("adapters/v1.4/probes.json")
    assert keys(bucket, "runs/rejected/")
    assert keys(bucket, "fisher/")


def test_the_remains_of_crashed_runs_are_deleted(mock_store: Store, mock_registry: Registry) -> None:
    chain(mock_store, mock_registry, 1)
    work = with_reservoir(mock_store, stage(mock_store, "crashed", week(1), "v1.0"))
    with crash_after(mock_store.client, 5):
        work.publish(mock_registry)
    orphans = {f"adapters/v1.1/{name}" for name in ("claim-crashed.json", "adapter.tar.gz", "probes.json")}
    orphans |= {"heldout/v1.1/heldout.parquet", "replay/v1.1/replay.parquet"}
    assert orphans <= keys(mock_store)
    assert "claims" not in sweep(mock_store, 29).objects
    assert sweep(mock_store, 31).objects["claims"] == 5
    assert not orphans & keys(mock_store)
    assert audit(mock_store, mock_registry) == []


def test_with_unknown_ancestors_texts_are_deleted_and_archives_kept(
    bucket: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """v1.1 has lost its metadata, so the ancestors of the live version are unknown."""
    bucket.delete(["adapters/v1.1/metadata.json"])
    before = keys(bucket, "adapters/") | keys(bucket, "fisher/")
    swept = sweep(bucket, 1000)
    assert keys(bucket, "heldout/") == set()
    assert not keys(bucket, "runs/") & {"runs/run0/adapter.tar.gz", "runs/run1/adapter.tar.gz"}
    gone = before - keys(bucket)
    assert {key.rpartition("/")[2] for key in gone} == {"probes.json"}
    assert "heldout/v1.1/heldout.parquet" in bucket.get_json("adapters/v1.1/swept.json")["swept"]
    assert swept.skipped == {"versions": 1, "rejected": 1, "fisher": 1}
    assert caplog.text.count("sweep.skipped") == 3


@pytest.mark.parametrize("harm", [b"{", pytest.param(b'{"record": "AdapterVersion", "schema": 99}', marks=STACK)])
@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=STACK) for number in range(1, 5))])
def test_corrupt_metadata_does_not_stop_the_deletion_of_texts(bucket: Store, number: int, harm: bytes) -> None:
    bucket.put_bytes(f"adapters/v1.{number}/metadata.json", harm)
    swept = sweep(bucket, 91)
    assert keys(bucket, "heldout/") == set()
    assert swept.skipped["versions"] == 1
    assert {key for key in keys(bucket) if key.endswith("adapter.tar.gz") and key.startswith("adapters/")} == {
        f"adapters/v1.{number}/adapter.tar.gz" for number in range(5)
    }


def test_the_staging_of_a_live_version_without_metadata_is_kept(bucket: Store) -> None:
    """The metadata can be written again from it."""
    bucket.delete(["adapters/v1.3/metadata.json"])
    sweep(bucket, 91)
    assert len(keys(bucket, "runs/run3/")) == 5
    stage(bucket, "run3", week(3), "v1.2").publish(Registry(bucket, settle_seconds=0))
    assert Registry(bucket).get("v1.3").run_key == "run3"


@pytest.mark.parametrize(
    "harm",
    [b"{", pytest.param(b'{"record": "FisherRecord", "schema": 99}', marks=STACK), pytest.param(b"[]", marks=STACK)],
)
def test_a_corrupt_fisher_record_stops_nothing_else(
    bucket: Store, harm: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    measure(bucket, "v1.0", "another-window")
    measure(bucket, "v1.1", "another-window")
    bucket.put_bytes("fisher/v1.0/fisher.json", harm)
    swept = sweep(bucket, 91)
    assert keys(bucket, "heldout/") == set()
    assert {key for key in keys(bucket, "fisher/v1.0/") if key.endswith(".safetensors")} == {
        "fisher/v1.0/own.safetensors",
        "fisher/v1.0/another-window.safetensors",
    }
    assert not bucket.exists("fisher/v1.1/own.safetensors")
    assert swept.skipped == {"fisher": 1}
    assert bucket.uri("fisher/v1.0/fisher.json") in caplog.text


@pytest.mark.parametrize("harm", [b"{", pytest.param(b"[]", marks=STACK), pytest.param(b"{}", marks=STACK)])
def test_with_a_corrupt_swept_record_the_version_keeps_its_objects(bucket: Store, harm: bytes) -> None:
    bucket.put_bytes("adapters/v1.0/swept.json", harm)
    swept = sweep(bucket, 91)
    assert keys(bucket, "heldout/") == {"heldout/v1.0/heldout.parquet"}
    assert swept.skipped == {"swept": 1}
    assert any("adapters/v1.0/swept.json" in str(finding) for finding in audit(bucket, Registry(bucket)))


def test_a_corrupt_ledger_does_not_stop_the_deletion_of_texts(bucket: Store) -> None:
    """Every version that was ever live is then kept."""
    newest = max(keys(bucket, "deployments/ledger/"))
    corrupt(bucket, newest, b"{}")
    swept = sweep(bucket, 400)
    assert keys(bucket, "heldout/") == set()
    assert keys(bucket, "runs/run0/")
    assert not keys(bucket, "runs/rejected/")
    assert swept.skipped == {"ledger": 1}


def test_a_new_measurement_does_not_delete_one_that_a_version_was_trained_with(bucket: Store) -> None:
    measure(bucket, "v1.0", "another-window")
    measure(bucket, "v1.1", "another-window")
    assert audit(bucket, Registry(bucket)) == []
    assert "fisher" not in sweep(bucket, 29).objects
    assert sweep(bucket, 31).objects["fisher"] == 1
    assert {key.partition("/")[2] for key in keys(bucket, "fisher/")} == {
        "v1.0/fisher.json",
        "v1.0/own.safetensors",  # v1.2 was trained with it
        "v1.0/another-window.safetensors",
        "v1.1/fisher.json",
        "v1.1/another-window.safetensors",
    }
    assert audit(bucket, Registry(bucket)) == []


def test_fisher_information_of_a_base_model_is_deleted_unless_a_version_continues_it(
    mock_store: Store, mock_registry: Registry
) -> None:
    used, _ = measure(mock_store, "base-used"), measure(mock_store, "base-unused")
    stage(mock_store, "run0", week(0), fisher=used).publish(mock_registry)
    assert sweep(mock_store, 29).objects == {}
    assert sweep(mock_store, 31).objects["fisher"] == 2
    assert keys(mock_store, "fisher/") == {"fisher/base-used/fisher.json", "fisher/base-used/own.safetensors"}
