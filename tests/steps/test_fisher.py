"""What guards a version is measured once, kept in the bucket, and measured again where it can no longer be used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learning_engine.errors import ModelError
from learning_engine.records.contracts import AdapterVersion, FisherRecord
from learning_engine.registry import manifest
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests import tiny
from tests.steps.conftest import Road, feedback_rows, week


@pytest.fixture
def quick(road: Road) -> Road:
    """Small weeks, a few steps each."""
    road.teach(0, 1, count=16)
    return road.with_settings(training={"epochs": 2.0})


@pytest.fixture
def guarded(quick: Road) -> tuple[Road, AdapterVersion, FisherRecord]:
    """A version, and what guards it."""
    version = quick.learn(week(0))
    return quick, version, fisher_step.guard(quick.resources, version)


def anchored(road: Road, path: Path) -> Road:
    path.write_text("".join(json.dumps(row) + "\n" for row in feedback_rows(7, 12)), encoding="utf-8")
    return road.with_settings(fisher={"anchor": str(path)})


def objects(road: Road) -> dict[str, Any]:
    return {item.key: item.modified for item in road.resources.store.list("")}


def file_of(road: Road, record: FisherRecord) -> str:
    """sha256 of the file that the record names, as it lies in the bucket now."""
    return road.resources.store.digest(road.resources.store.key(str(record.uri)))


def test_it_is_measured_once_for_a_version(guarded: tuple[Road, AdapterVersion, FisherRecord]) -> None:
    road, version, record = guarded
    assert (record.guards, record.accumulated, record.note) == ("v1.0", [], "")
    assert record.n_sequences > 0
    assert file_of(road, record) == record.sha256
    written = objects(road)
    assert fisher_step.guard(road.resources, version) == record
    dataset = extract_step.extract(road.resources, week(1), widen=False)
    assert fisher_step.fisher(road.resources, dataset) == record
    assert objects(road).items() - written.items() == {
        item for item in objects(road).items() if item[0].startswith(f"runs/{dataset.run_key}/")
    }


def test_where_the_snapshot_is_gone_its_window_is_read_again(
    guarded: tuple[Road, AdapterVersion, FisherRecord],
) -> None:
    road, version, record = guarded
    road.resources.store.delete([road.resources.store.key(version.dataset.uri)])
    again = fisher_step.fisher_of(road.resources, "v1.0", window=None)
    assert "read again from the source" in again.note
    assert replace(again, note="") == record, "the same rows give the same Fisher information"


def test_another_window_on_demand_replaces_what_the_bucket_holds(
    guarded: tuple[Road, AdapterVersion, FisherRecord],
) -> None:
    road, version, record = guarded
    other = fisher_step.fisher_of(road.resources, "v1.0", window=week(1))
    assert other.note == f"measured on {week(1)}"
    assert other.sha256 != record.sha256
    assert fisher_step.guard(road.resources, version) == other


def test_a_run_that_is_under_way_keeps_the_measurement_that_it_began_with(
    guarded: tuple[Road, AdapterVersion, FisherRecord],
) -> None:
    road, _, record = guarded
    dataset = extract_step.extract(road.resources, week(1), widen=False)
    fisher_step.fisher_of(road.resources, "v1.0", window=week(1))
    assert train_step.train(road.resources, dataset, record).fisher == record


def test_anchor_data_guard_the_base_model_and_every_version_after_it(quick: Road, tmp_path: Path) -> None:
    road = anchored(quick, tmp_path / "anchor.jsonl")
    first = road.learn(week(0))
    assert (first.fisher.guards, first.fisher.note) == ("base", "measured on the anchor data")
    assert first.fisher.uri is not None
    assert first.training.ewc_loss > 0
    unguarded = train_step.train(
        quick.resources,
        plain := extract_step.extract(quick.resources, week(0), widen=False),
        fisher_step.fisher(quick.resources, plain),
    )
    assert unguarded.training.ewc_loss == 0
    assert unguarded.sha256 != first.sha256

    second = road.learn(week(1))
    assert (second.fisher.guards, second.fisher.accumulated) == ("v1.0", ["base"])
    last = fisher_step.guard(road.resources, second)
    assert (last.guards, last.accumulated) == ("v1.1", ["base", "v1.0"])
    measured = [key for key in objects(road) if key.startswith("fisher/") and key.endswith(".safetensors")]
    assert len(measured) == 3, "the base's, measured once, and those of the two versions"


def test_earlier_fisher_information_counts_with_the_decay(
    guarded: tuple[Road, AdapterVersion, FisherRecord], tmp_path: Path
) -> None:
    """F(v1.1) = measured + γ · F(v1.0)."""
    road, _, record = guarded
    second = road.learn(week(1))

    def diagonal(of: FisherRecord) -> Any:
        return fisher_step.load(road.resources, of, tmp_path / "loaded.safetensors").tensors

    def with_decay(decay: float) -> Any:
        changed = road.with_settings(fisher={"decay": decay}).resources
        found = fisher_step.guard(changed, second, anew=True)
        assert (found.decay, found.weight) == (decay, 1 + decay)
        return diagonal(found)

    earlier, alone, half = diagonal(record), with_decay(0.0), with_decay(0.5)
    for name, tensor in half.items():
        if name.endswith(".C"):
            continue  # a mean, see the tests of kronecker.accumulate
        assert tensor.allclose(alone[name] + 0.5 * earlier[name], rtol=1e-5, atol=0), name
        assert not tensor.equal(alone[name]), name


@pytest.mark.parametrize("harm", ["another file", "no file", "no record"])
def test_what_a_worker_left_half_written_is_measured_anew(
    guarded: tuple[Road, AdapterVersion, FisherRecord], harm: str
) -> None:
    road, version, record = guarded
    store = road.resources.store
    file = store.key(str(record.uri))
    if harm == "another file":
        store.put_bytes(file, b"another")
    else:
        store.delete([file if harm == "no file" else manifest.fisher_key("v1.0", "fisher.json")])
    assert fisher_step.guard(road.resources, version) == record
    assert file_of(road, record) == record.sha256


def test_another_base_model_under_the_same_name_is_refused_before_anything_is_written(
    quick: Road, base: Path, tmp_path: Path
) -> None:
    own = tmp_path / "base"
    shutil.copytree(base, own)
    road = quick.with_settings(model={"base": str(own)})
    version = road.learn(week(0))
    dataset = extract_step.extract(road.resources, week(1), widen=False)
    assert dataset.parent == "v1.0"
    written = objects(road)

    tiny.make_base(own, seed=1)
    for step in (
        lambda: fisher_step.guard(road.resources, version),
        lambda: train_step.train(road.resources, dataset, version.fisher),
    ):
        with pytest.raises(ModelError, match=r"base model of v1\.0.*pin model\.revision") as raised:
            step()
        assert version.base_revision in str(raised.value)
        assert not raised.value.retryable
    assert objects(road) == written


@pytest.mark.parametrize(
    ("fisher", "labels", "smoothing"), [({"labels": "observed"}, "observed", 0), ({"smoothing": 0.2}, "sampled", 0.2)]
)
def test_other_labels_are_measured_anew_along_the_whole_chain(
    guarded: tuple[Road, AdapterVersion, FisherRecord], fisher: dict[str, Any], labels: str, smoothing: float
) -> None:
    road, version, record = guarded
    second = road.learn(week(1))
    assert second.fisher == record
    others = road.with_settings(fisher=fisher)
    anew = fisher_step.guard(others.resources, second)
    assert (anew.labels, anew.smoothing, anew.guards, anew.accumulated) == (labels, smoothing, "v1.1", ["v1.0"])
    earlier = fisher_step.guard(others.resources, version)
    assert (earlier.labels, earlier.smoothing) == (labels, smoothing)
    assert earlier.sha256 != record.sha256
    assert file_of(road, earlier) == earlier.sha256
