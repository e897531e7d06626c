"""Retention takes what is over and nothing else; the audit names every object that is missing or altered."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from learning_engine.config.sections import Retention
from learning_engine.records.contracts import FisherRecord
from learning_engine.registry import census, manifest, upkeep
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.test_registry import crash_after
from tests.registry.test_store import corrupt
from tests.registry.work import chain, deployment, stage, week, with_reservoir

RETENTION = Retention(text_days=90, runs_days=30, rejected_days=180)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def keys(store: Store, prefix: str = "") -> set[str]:
    return {stored.key for stored in store.list(prefix)}


def sweep(store: Store, days: float, **options: Any) -> upkeep.Swept:
    return upkeep.sweep(store, Registry(store), Ledger(store), RETENTION, now=in_days(days), **options)


def measure(store: Store, version: str, what: str = "own") -> FisherRecord:
    """Put Fisher information of `version`, measured on `what`, into the bucket."""
    key = manifest.fisher_key(version, f"{what}.safetensors")
    sha256 = store.put_bytes(key, f"fisher of {version} on {what}".encode())
    record = FisherRecord(version, "diagonal", "sampled", "nats", store.uri(key), sha256, 10, 100)
    store.put_json(manifest.fisher_key(version, "fisher.json"), record.to_json())
    return record


@pytest.fixture
def house(mock_store: Store) -> Store:
    return furnish(mock_store)


@pytest.fixture
def real_house(store: Store) -> Store:
    return furnish(store)


def furnish(store: Store) -> Store:
    """v1.0 to v1.3 with Fisher information of the first two; v1.3 is live, v1.2 is where a rollback goes; v1.4 and the
    run `thin` were rejected and never published.
    """
    registry = Registry(store, settle_seconds=0)
    chain(store, registry, 2)
    fisher = measure(store, "v1.0")
    stage(store, "run2", week(2), "v1.1", fisher=fisher).publish(registry)
    measure(store, "v1.1")
    stage(store, "run3", week(3), "v1.2").publish(registry)
    stage(store, "rejected", week(4), "v1.3", accepted=False).publish(registry)
    store.put_bytes(manifest.run_key("thin", "dataset.parquet"), b"12345")
    ledger = Ledger(store)
    for number in range(4):
        entry = deployment(f"v1.{number}", datetime(2026, 10, 1 + number, tzinfo=UTC), number=number)
        ledger.record(dataclasses.replace(entry, previous=f"v1.{number - 1}" if number else None))
    return store


def test_nothing_is_over_at_first(house: Store) -> None:
    before = keys(house)
    assert sweep(house, 29) == upkeep.Swept(False, {}, {})
    assert keys(house) == before


def test_a_dry_run_only_counts(house: Store) -> None:
    before = keys(house)
    swept = sweep(house, 200, dry_run=True)
    assert keys(house) == before
    assert swept.dry_run
    real = sweep(house, 200)
    assert (real.objects, real.bytes) == (swept.objects, swept.bytes)
    assert sum(real.objects.values()) == len(before - keys(house))
    assert real.bytes["rejected"] == len("adapter.tar.gz of rejected") * 100


def test_runs_go_after_their_time(real_house: Store) -> None:
    before = keys(real_house)
    swept = sweep(real_house, 31)
    gone = before - keys(real_house)
    # Fisher information of v1.0 and v1.1 is there; v1.2 and v1.3 are where a rollback goes, and live.
    assert {key.split("/")[1] for key in gone} == {"run0", "run1", "rejected", "thin"}
    assert swept.objects == {"runs": 3 * 5 + 1} == {"runs": len(gone)}
    assert keys(real_house, "runs/run2/") | keys(real_house, "runs/run3/") <= before
    assert upkeep.audit(real_house, Registry(real_house)) == []


def test_a_snapshot_waits_for_its_fisher(mock_store: Store, mock_registry: Registry) -> None:
    chain(mock_store, mock_registry, 2)
    stage(mock_store, "twin", week(1), "v1.0").publish(mock_registry)
    mock_registry.revoke("v1.2", by="ada", reason="bad")
    assert sweep(mock_store, 31).objects == {"runs": 4 + 4 + 5}
    assert keys(mock_store, "runs/") == {"runs/run0/dataset.parquet", "runs/run1/dataset.parquet"}
    measure(mock_store, "v1.0")
    assert sweep(mock_store, 31).objects == {"runs": 1}
    assert keys(mock_store, "runs/") == {"runs/run1/dataset.parquet"}


def test_text_goes_after_its_time_and_is_not_missed(house: Store) -> None:
    sweep(house, 91)
    assert keys(house, "heldout/") == set()
    probes = {f"adapters/v1.{number}/probes.json" for number in (2, 3)}
    assert {key for key in keys(house, "adapters/") if key.endswith("probes.json")} == probes
    assert set(house.get_json("adapters/v1.0/swept.json")["swept"]) == {
        "adapters/v1.0/probes.json",
        "heldout/v1.0/heldout.parquet",
    }
    assert upkeep.audit(house, Registry(house)) == []
    house.delete(["adapters/v1.3/probes.json"])
    assert [str(finding) for finding in upkeep.audit(house, Registry(house))] == [
        house.uri("adapters/v1.3/probes.json") + ": missing"
    ]


def test_a_reservoir_goes_with_the_text_even_of_the_live_version(mock_store: Store, mock_registry: Registry) -> None:
    for number, parent in ((0, None), (1, "v1.0")):
        with_reservoir(mock_store, stage(mock_store, f"run{number}", week(number), parent)).publish(mock_registry)
    Ledger(mock_store).record(deployment("v1.1", datetime(2026, 10, 1, tzinfo=UTC)))
    reservoirs = {f"replay/v1.{number}/replay.parquet" for number in range(2)}
    assert "replay" not in sweep(mock_store, 89).objects
    assert keys(mock_store, "replay/") == reservoirs
    assert sweep(mock_store, 91).objects["replay"] == 2
    assert keys(mock_store, "replay/") == set()
    assert "replay/v1.1/replay.parquet" in mock_store.get_json("adapters/v1.1/swept.json")["swept"]
    assert upkeep.audit(mock_store, mock_registry) == []


def test_the_audit_reads_reservoirs_too(mock_store: Store, mock_registry: Registry) -> None:
    for number, parent in ((0, None), (1, "v1.0")):
        with_reservoir(mock_store, stage(mock_store, f"run{number}", week(number), parent)).publish(mock_registry)
    mock_store.delete(["replay/v1.0/replay.parquet"])
    corrupt(mock_store, "replay/v1.1/replay.parquet", b"other rows")
    missing, altered = upkeep.audit(mock_store, mock_registry)
    assert str(missing) == mock_store.uri("replay/v1.0/replay.parquet") + ": missing"
    assert altered.uri == mock_store.uri("replay/v1.1/replay.parquet")
    assert "expected sha256" in altered.problem


def test_only_rejected_archives_go(house: Store) -> None:
    sweep(house, 91)
    assert sweep(house, 181).objects == {"rejected": 1}
    archives = {key for key in keys(house, "adapters/") if key.endswith("adapter.tar.gz")}
    assert archives == {f"adapters/v1.{number}/adapter.tar.gz" for number in range(4)}
    assert [version.version for version in Registry(house).versions()][-1] == "v1.4"
    assert upkeep.audit(house, Registry(house)) == []


def test_a_rejected_version_that_a_person_deployed_stays(house: Store) -> None:
    Ledger(house).record(deployment("v1.4", datetime(2026, 10, 9, tzinfo=UTC), number=9))
    swept = sweep(house, 400)
    assert "rejected" not in swept.objects
    assert house.exists("adapters/v1.4/probes.json")
    assert keys(house, "runs/rejected/")
    assert keys(house, "fisher/")


def test_orphans_of_crashed_runs_go(mock_store: Store, mock_registry: Registry) -> None:
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
    assert upkeep.audit(mock_store, mock_registry) == []


def test_where_the_chain_is_broken_texts_go_and_all_else_stays(house: Store, caplog: pytest.LogCaptureFixture) -> None:
    """v1.1 has lost its metadata: which of the archives are ancestors of the live version, nobody can tell."""
    house.delete(["adapters/v1.1/metadata.json"])
    before = keys(house, "adapters/") | keys(house, "fisher/")
    swept = sweep(house, 1000)
    assert keys(house, "heldout/") == set()
    assert not keys(house, "runs/") & {"runs/run0/adapter.tar.gz", "runs/run1/adapter.tar.gz"}
    gone = before - keys(house)
    assert {key.rpartition("/")[2] for key in gone} == {"probes.json"}
    assert "heldout/v1.1/heldout.parquet" in house.get_json("adapters/v1.1/swept.json")["swept"]
    assert swept.skipped == {"versions": 1, "rejected": 1, "fisher": 1}
    assert caplog.text.count("sweep.skipped") == 3


@pytest.mark.parametrize("harm", [b"{", b'{"record": "AdapterVersion", "schema": 99}'])
@pytest.mark.parametrize("number", range(5))
def test_damaged_metadata_stop_no_retention_of_texts(house: Store, number: int, harm: bytes) -> None:
    house.put_bytes(f"adapters/v1.{number}/metadata.json", harm)
    swept = sweep(house, 91)
    assert keys(house, "heldout/") == set()
    assert swept.skipped["versions"] == 1
    assert {key for key in keys(house) if key.endswith("adapter.tar.gz") and key.startswith("adapters/")} == {
        f"adapters/v1.{number}/adapter.tar.gz" for number in range(5)
    }


def test_the_staging_of_a_live_version_stays_though_its_metadata_are_lost(house: Store) -> None:
    """From it they can be written again."""
    house.delete(["adapters/v1.3/metadata.json"])
    sweep(house, 91)
    assert len(keys(house, "runs/run3/")) == 5
    stage(house, "run3", week(3), "v1.2").publish(Registry(house, settle_seconds=0))
    assert Registry(house).get("v1.3").run_key == "run3"


@pytest.mark.parametrize("harm", [b"{", b'{"record": "FisherRecord", "schema": 99}', b"[]"])
def test_a_damaged_fisher_record_stops_nothing_else(
    house: Store, harm: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    measure(house, "v1.0", "another-window")
    measure(house, "v1.1", "another-window")
    house.put_bytes("fisher/v1.0/fisher.json", harm)
    swept = sweep(house, 91)
    assert keys(house, "heldout/") == set()
    assert {key for key in keys(house, "fisher/v1.0/") if key.endswith(".safetensors")} == {
        "fisher/v1.0/own.safetensors",
        "fisher/v1.0/another-window.safetensors",
    }
    assert not house.exists("fisher/v1.1/own.safetensors")
    assert swept.skipped == {"fisher": 1}
    assert house.uri("fisher/v1.0/fisher.json") in caplog.text


@pytest.mark.parametrize("harm", [b"{", b"[]", b"{}"])
def test_a_damaged_note_of_what_was_swept_keeps_what_could_not_be_noted(house: Store, harm: bytes) -> None:
    house.put_bytes("adapters/v1.0/swept.json", harm)
    swept = sweep(house, 91)
    assert keys(house, "heldout/") == {"heldout/v1.0/heldout.parquet"}
    assert swept.skipped == {"swept": 1}
    assert any("adapters/v1.0/swept.json" in str(finding) for finding in upkeep.audit(house, Registry(house)))


def test_a_damaged_ledger_stops_no_retention_of_texts(house: Store) -> None:
    """Then whatever was ever live is held."""
    newest = max(keys(house, "deployments/ledger/"))
    corrupt(house, newest, b"{}")
    swept = sweep(house, 400)
    assert keys(house, "heldout/") == set()
    assert keys(house, "runs/run0/")
    assert not keys(house, "runs/rejected/")
    assert swept.skipped == {"ledger": 1}


def lose(store: Store, number: int) -> str:
    key = f"adapters/v1.{number}/metadata.json"
    store.delete([key])
    return store.uri(key)


@pytest.mark.parametrize("number", range(4))
def test_the_audit_names_metadata_that_are_lost(house: Store, number: int) -> None:
    uri = lose(house, number)
    (finding,) = [found for found in upkeep.audit(house, Registry(house)) if found.uri == uri]
    assert finding.problem.startswith("missing, but the ledger names it")


@pytest.mark.parametrize(
    ("leave", "shows"),
    [
        ("child", "v1.1 continues it"),
        ("revoked", "its revoked.json is there"),
        ("vouched", "its vouched.json is there"),
        ("fisher", "its Fisher information is there"),
    ],
)
def test_what_shows_that_a_version_was_published(
    mock_store: Store, mock_registry: Registry, leave: str, shows: str
) -> None:
    chain(mock_store, mock_registry, 2 if leave == "child" else 1)
    if leave == "revoked":
        mock_registry.revoke("v1.0", by="ada", reason="wrong facts")
    if leave == "vouched":
        mock_registry.vouch("v1.0", by="ada", reason="good enough")
    if leave == "fisher":
        measure(mock_store, "v1.0")
    uri = lose(mock_store, 0)
    (finding,) = upkeep.audit(mock_store, Registry(mock_store))
    assert (finding.uri, finding.problem.partition(":")[0]) == (uri, f"missing, but {shows}")
    kept = keys(mock_store, "adapters/v1.0/")
    assert sweep(mock_store, 60).skipped["versions"] == 1
    assert keys(mock_store, "adapters/v1.0/") == kept


def test_a_version_of_which_nothing_else_tells_is_shown_by_its_card(
    mock_store: Store, mock_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: a publish that was killed before its last write may still be tried again."""
    chain(mock_store, mock_registry, 1)
    uri = lose(mock_store, 0)
    assert upkeep.audit(mock_store, Registry(mock_store)) == []
    monkeypatch.setattr(census, "PUBLISHING", timedelta(0))
    (finding,) = upkeep.audit(mock_store, Registry(mock_store))
    assert (finding.uri, finding.problem.partition(":")[0]) == (uri, "missing, but its model card is there")
    assert "claims" not in sweep(mock_store, 60).objects
    assert mock_store.exists("adapters/v1.0/adapter.tar.gz")


def test_a_version_that_lost_all_it_had_is_missed_all_the_same(house: Store) -> None:
    house.delete([key for key in keys(house) if manifest.version_of(key) == "v1.1"])
    assert house.uri("adapters/v1.1/metadata.json") in {finding.uri for finding in upkeep.audit(house, Registry(house))}


def test_the_audit_looks_at_the_ledger_too(house: Store) -> None:
    newest, damaged = max(keys(house, "deployments/ledger/")), min(keys(house, "deployments/ledger/"))
    house.delete([newest])
    corrupt(house, damaged, b"{}")
    found = {finding.uri: finding.problem for finding in upkeep.audit(house, Registry(house))}
    assert set(found) == {house.uri(newest), house.uri(damaged)}
    assert found[house.uri(newest)].startswith("missing")
    assert "expected sha256" in found[house.uri(damaged)]


@pytest.mark.parametrize("name", ["adapter.tar.gz", "probes.json", "README.md"])
def test_the_audit_names_what_is_missing(mock_store: Store, mock_registry: Registry, name: str) -> None:
    chain(mock_store, mock_registry, 2)
    mock_store.delete([f"adapters/v1.1/{name}", "heldout/v1.0/heldout.parquet"])
    assert [finding.uri for finding in upkeep.audit(mock_store, mock_registry)] == [
        mock_store.uri(f"adapters/v1.1/{name}"),
        mock_store.uri("heldout/v1.0/heldout.parquet"),
    ]


def test_the_audit_names_what_has_changed(real_house: Store) -> None:
    altered = [
        "adapters/v1.1/adapter.tar.gz",
        "adapters/v1.2/probes.json",
        "fisher/v1.0/own.safetensors",
        "heldout/v1.3/heldout.parquet",
    ]
    for key in altered:
        corrupt(real_house, key, b"other bytes")
    # Written anew, so that its own digest is right, but not the version's.
    real_house.put_bytes("adapters/v1.3/adapter.tar.gz", b"other weights")
    findings = upkeep.audit(real_house, Registry(real_house))
    assert [finding.uri for finding in findings] == [
        real_house.uri(key) for key in sorted([*altered, "adapters/v1.3/adapter.tar.gz"])
    ]
    assert all("expected sha256" in finding.problem for finding in findings)


def test_the_audit_goes_on_after_bad_metadata(mock_store: Store, mock_registry: Registry) -> None:
    chain(mock_store, mock_registry, 2)
    corrupt(mock_store, "adapters/v1.0/metadata.json", b"{}")
    mock_store.put_json("adapters/v1.1/metadata.json", {"record": "AdapterVersion", "schema": 99})
    problems = [str(finding) for finding in upkeep.audit(mock_store, Registry(mock_store))]
    assert any("v1.0" in problem and "expected sha256" in problem for problem in problems)
    assert any("v1.1" in problem and "of schema 99" in problem for problem in problems)


def test_fisher_information_measured_anew_leaves_what_a_version_was_trained_under(house: Store) -> None:
    measure(house, "v1.0", "another-window")
    measure(house, "v1.1", "another-window")
    assert upkeep.audit(house, Registry(house)) == []
    assert "fisher" not in sweep(house, 29).objects
    assert sweep(house, 31).objects["fisher"] == 1
    assert {key.partition("/")[2] for key in keys(house, "fisher/")} == {
        "v1.0/fisher.json",
        "v1.0/own.safetensors",  # v1.2 was trained under it
        "v1.0/another-window.safetensors",
        "v1.1/fisher.json",
        "v1.1/another-window.safetensors",
    }
    assert upkeep.audit(house, Registry(house)) == []


def test_fisher_information_of_a_base_model_goes_unless_a_version_continues_it(
    mock_store: Store, mock_registry: Registry
) -> None:
    used, _ = measure(mock_store, "base-used"), measure(mock_store, "base-unused")
    stage(mock_store, "run0", week(0), fisher=used).publish(mock_registry)
    assert sweep(mock_store, 29).objects == {}
    assert sweep(mock_store, 31).objects["fisher"] == 2
    assert keys(mock_store, "fisher/") == {"fisher/base-used/fisher.json", "fisher/base-used/own.safetensors"}
