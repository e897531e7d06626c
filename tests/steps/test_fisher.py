"""A version's Fisher information is measured once, stored in the bucket, and measured again if it is unusable."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learning_engine.errors import DatasetError, ModelError
from learning_engine.records.contracts import AdapterVersion, FisherRecord
from learning_engine.registry import manifest
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests import tiny
from tests.steps.conftest import Loop, feedback_rows, week


@pytest.fixture
def quick(loop: Loop) -> Loop:
    """Two small weeks; a training takes a few steps."""
    loop.teach(0, 1, count=16)
    return loop.with_settings(training={"epochs": 2.0})


@pytest.fixture
def guarded(quick: Loop) -> tuple[Loop, AdapterVersion, FisherRecord]:
    """A version and its Fisher information."""
    version = quick.learn(week(0))
    return quick, version, fisher_step.get_or_measure(quick.resources, version)


def anchored(loop: Loop, path: Path) -> Loop:
    path.write_text("".join(json.dumps(row) + "\n" for row in feedback_rows(7, 12)), encoding="utf-8")
    return loop.with_settings(fisher={"anchor": str(path)})


def objects(loop: Loop) -> dict[str, Any]:
    return {item.key: item.modified for item in loop.resources.store.list("")}


def file_of(loop: Loop, record: FisherRecord) -> str:
    """The current sha256 of the file that the record names."""
    return loop.resources.store.digest(loop.resources.store.key(str(record.uri)))


def test_fisher_information_is_measured_once_per_version(guarded: tuple[Loop, AdapterVersion, FisherRecord]) -> None:
    loop, version, record = guarded
    assert (record.guards, record.accumulated, record.note) == ("v1.0", [], "")
    assert record.n_sequences > 0
    assert file_of(loop, record) == record.sha256
    written = objects(loop)
    assert fisher_step.get_or_measure(loop.resources, version) == record
    dataset = extract_step.extract(loop.resources, week(1), widen=False)
    assert fisher_step.fisher(loop.resources, dataset) == record
    assert objects(loop).items() - written.items() == {
        item for item in objects(loop).items() if item[0].startswith(f"runs/{dataset.run_key}/")
    }


def test_nothing_is_measured_if_nothing_is_to_be_protected(guarded: tuple[Loop, AdapterVersion, FisherRecord]) -> None:
    loop = guarded[0].with_settings(ewc={"lambda_": 0.0})
    dataset = extract_step.extract(loop.resources, week(1), widen=False)
    before = {key for key in objects(loop) if key.startswith("fisher/")}
    record = fisher_step.fisher(loop.resources, dataset)
    assert (record.guards, record.uri) == ("v1.0", None)
    assert "ewc.lambda 0" in record.note
    assert {key for key in objects(loop) if key.startswith("fisher/")} == before
    assert train_step.train(loop.resources, dataset, record).training.ewc_loss == 0


def test_if_the_snapshot_is_missing_its_window_is_read_again(
    guarded: tuple[Loop, AdapterVersion, FisherRecord],
) -> None:
    loop, version, record = guarded
    loop.resources.store.delete([loop.resources.store.key(version.dataset.uri)])
    again = fisher_step.fisher_of(loop.resources, "v1.0", window=None)
    assert "read again from the source" in again.note
    assert replace(again, note="") == record, "the same rows give the same Fisher information"


def test_measuring_another_window_replaces_the_stored_information(
    guarded: tuple[Loop, AdapterVersion, FisherRecord],
) -> None:
    loop, version, record = guarded
    other = fisher_step.fisher_of(loop.resources, "v1.0", window=week(1))
    assert other.note == f"measured on {week(1)}"
    assert other.sha256 != record.sha256
    assert fisher_step.get_or_measure(loop.resources, version) == other


def test_a_running_run_keeps_the_measurement_that_it_started_with(
    guarded: tuple[Loop, AdapterVersion, FisherRecord],
) -> None:
    loop, _, record = guarded
    dataset = extract_step.extract(loop.resources, week(1), widen=False)
    fisher_step.fisher_of(loop.resources, "v1.0", window=week(1))
    assert train_step.train(loop.resources, dataset, record).fisher == record


@pytest.mark.stack
def test_anchor_data_protects_the_base_model_through_every_later_version(quick: Loop, tmp_path: Path) -> None:
    loop = anchored(quick, tmp_path / "anchor.jsonl")
    first = loop.learn(week(0))
    assert (first.fisher.guards, first.fisher.note) == ("base", "measured on the anchor")
    assert first.fisher.uri is not None
    assert first.training.ewc_loss > 0
    unguarded = train_step.train(
        quick.resources,
        plain := extract_step.extract(quick.resources, week(0), widen=False),
        fisher_step.fisher(quick.resources, plain),
    )
    assert unguarded.training.ewc_loss == 0
    assert unguarded.sha256 != first.sha256

    second = loop.learn(week(1))
    assert (second.fisher.guards, second.fisher.accumulated) == ("v1.0", ["base"])
    last = fisher_step.get_or_measure(loop.resources, second)
    assert (last.guards, last.accumulated) == ("v1.1", ["base", "v1.0"])
    measured = [key for key in objects(loop) if key.startswith("fisher/") and key.endswith(".safetensors")]
    assert len(measured) == 3, "the base's, measured once, and those of the two versions"


def dislike_everything(loop: Loop, number: int) -> None:
    rows = [row | {"feedback_type": "thumbs_down"} for row in feedback_rows(number, 16)]
    with loop.feedback.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_a_version_without_likes_keeps_the_information_of_its_parent(
    guarded: tuple[Loop, AdapterVersion, FisherRecord], tmp_path: Path
) -> None:
    loop, _, record = guarded
    dislike_everything(loop, 1)
    second = loop.learn(week(1))
    assert (second.parent, second.dataset.thumbs_up) == ("v1.0", 0)
    kept = fisher_step.get_or_measure(loop.resources, second)
    assert (kept.guards, kept.accumulated, kept.weight) == ("v1.1", ["v1.0"], record.weight)
    assert kept.note == "this version has no liked row: only what earlier versions protect stays protected"
    assert fisher_step.get_or_measure(loop.resources, second) == kept, "found in the bucket"

    def tensors(of: FisherRecord) -> Any:
        return fisher_step.load(loop.resources, of, tmp_path / "loaded.safetensors").tensors

    assert all(tensor.equal(tensors(record)[name]) for name, tensor in tensors(kept).items())
    loop.resources.registry.vouch("v1.1", by="ada", reason="good enough")
    loop.teach(2, count=16)
    third = loop.learn(week(2))
    assert (third.parent, third.fisher) == ("v1.1", kept)
    assert third.training.ewc_loss > 0


def test_a_first_version_without_likes_protects_nothing(quick: Loop) -> None:
    dislike_everything(quick, 0)
    first = quick.learn(week(0))
    quick.resources.registry.vouch("v1.0", by="ada", reason="good enough")
    record = fisher_step.get_or_measure(quick.resources, first)
    assert (record.guards, record.uri) == ("v1.0", None)
    quick.teach(0, 1, count=16)
    second = quick.learn(week(1))
    assert (second.parent, second.training.ewc_loss) == ("v1.0", 0)


def test_a_window_without_likes_is_refused(guarded: tuple[Loop, AdapterVersion, FisherRecord]) -> None:
    loop, version, record = guarded
    dislike_everything(loop, 1)
    with pytest.raises(DatasetError, match=r"liked row with supervised tokens.*v1\.0, found none.*another window"):
        fisher_step.fisher_of(loop.resources, "v1.0", window=week(1))
    assert fisher_step.get_or_measure(loop.resources, version) == record


def test_earlier_fisher_information_is_weighted_by_the_decay(
    guarded: tuple[Loop, AdapterVersion, FisherRecord], tmp_path: Path
) -> None:
    """F(v1.1) = measured + γ · F(v1.0)."""
    loop, _, record = guarded
    second = loop.learn(week(1))

    def diagonal(of: FisherRecord) -> Any:
        return fisher_step.load(loop.resources, of, tmp_path / "loaded.safetensors").tensors

    def with_decay(decay: float) -> Any:
        changed = loop.with_settings(fisher={"decay": decay}).resources
        found = fisher_step.get_or_measure(changed, second, again=True)
        assert (found.decay, found.weight) == (decay, 1 + decay)
        return diagonal(found)

    earlier, alone, half = diagonal(record), with_decay(0.0), with_decay(0.5)
    for name, tensor in half.items():
        if name.endswith(".C"):
            continue  # a mean, see the tests of kronecker.accumulate
        assert tensor.allclose(alone[name] + 0.5 * earlier[name], rtol=1e-5, atol=0), name
        assert not tensor.equal(alone[name]), name


@pytest.mark.parametrize(
    "harm", ["another file", *(pytest.param(harm, marks=pytest.mark.stack) for harm in ("no file", "no record"))]
)
def test_an_incomplete_measurement_is_measured_again(
    guarded: tuple[Loop, AdapterVersion, FisherRecord], harm: str
) -> None:
    loop, version, record = guarded
    store = loop.resources.store
    file = store.key(str(record.uri))
    if harm == "another file":
        store.put_bytes(file, b"another")
    else:
        store.delete([file if harm == "no file" else manifest.fisher_key("v1.0", "fisher.json")])
    assert fisher_step.get_or_measure(loop.resources, version) == record
    assert file_of(loop, record) == record.sha256


def test_another_base_model_under_the_same_name_is_refused_before_anything_is_written(
    quick: Loop, base: Path, tmp_path: Path
) -> None:
    own = tmp_path / "base"
    shutil.copytree(base, own)
    loop = quick.with_settings(model={"base": str(own)})
    version = loop.learn(week(0))
    dataset = extract_step.extract(loop.resources, week(1), widen=False)
    assert dataset.parent == "v1.0"
    written = objects(loop)

    tiny.make_base(own, seed=1)
    for step in (
        lambda: fisher_step.get_or_measure(loop.resources, version),
        lambda: train_step.train(loop.resources, dataset, version.fisher),
    ):
        with pytest.raises(ModelError, match=r"base model of v1\.0.*pin model\.revision") as raised:
            step()
        assert version.base_revision in str(raised.value)
        assert not raised.value.retryable
    assert objects(loop) == written


@pytest.mark.stack
@pytest.mark.parametrize(
    ("fisher", "labels", "smoothing"), [({"labels": "observed"}, "observed", 0), ({"smoothing": 0.2}, "sampled", 0.2)]
)
def test_changed_labels_are_measured_again_along_the_whole_chain(
    guarded: tuple[Loop, AdapterVersion, FisherRecord], fisher: dict[str, Any], labels: str, smoothing: float
) -> None:
    loop, version, record = guarded
    second = loop.learn(week(1))
    assert second.fisher == record
    others = loop.with_settings(fisher=fisher)
    again = fisher_step.get_or_measure(others.resources, second)
    assert (again.labels, again.smoothing, again.guards, again.accumulated) == (labels, smoothing, "v1.1", ["v1.0"])
    earlier = fisher_step.get_or_measure(others.resources, version)
    assert (earlier.labels, earlier.smoothing) == (labels, smoothing)
    assert earlier.sha256 != record.sha256
    assert file_of(loop, earlier) == earlier.sha256
