"""An attempt that fails half-way, and a retry that continues from what is in the bucket or on the worker's disk."""

import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from learning_engine import archive
from learning_engine.errors import StoreError
from learning_engine.registry import manifest
from learning_engine.steps import spool
from tests.steps.attempts import keys, killed_at, prepare, refused, spool_of, train
from tests.steps.conftest import Loop


@pytest.mark.parametrize("name", ["adapter.tar.gz", "candidate.json"])
def test_a_trained_candidate_survives_a_store_failure(small: Loop, events: Any, name: str) -> None:
    dataset = prepare(small)
    directory = spool_of(small, dataset)
    for tries in (1, 2):
        with refused(small, name), pytest.raises(StoreError) as raised:
            train(small, dataset)
        assert str(directory) in str(raised.value)
        assert raised.value.retryable
        assert not small.resources.store.exists(manifest.run_key(dataset.run_key, "candidate.json"))
        assert json.loads((directory / "candidate.json").read_text())["sha256"] == archive.sha256_file(
            directory / spool.ARCHIVE
        )
        assert events("train.continued") == tries - 1
    steps = events("train.progress")
    assert steps > 0

    candidate = train(small, dataset)
    assert events("train.progress") == steps, "it was not trained again"
    assert not directory.exists()
    store = small.resources.store
    assert store.digest(store.key(candidate.uri)) == candidate.sha256
    assert train(small, dataset) == candidate


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (spool.ARCHIVE, b"another"),
        (spool.ARCHIVE, None),
        ("candidate.json", b'{"record": "Candi'),
        ("candidate.json", b"[]"),
        ("candidate.json", b"\xff"),
    ],
)
def test_a_corrupt_candidate_on_the_disk_is_logged_and_trained_again(
    small: Loop, events: Any, name: str, content: bytes | None
) -> None:
    dataset = prepare(small)
    with refused(small, "adapter.tar.gz"), pytest.raises(StoreError):
        train(small, dataset)
    directory = spool_of(small, dataset)
    expected = archive.sha256_file(directory / spool.ARCHIVE)
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    steps = events("train.progress")
    candidate = train(small, dataset)
    assert events("train.spool_damaged") == 1
    assert events("train.progress") > steps
    assert candidate.sha256 == expected
    assert small.resources.store.digest(manifest.run_key(dataset.run_key, spool.ARCHIVE)) == candidate.sha256
    assert not directory.exists(), "the spool is deleted once the bucket has the candidate"


def test_spooled_files_are_readable_by_their_owner_only(small: Loop) -> None:
    dataset = prepare(small)
    before = os.umask(0)
    try:
        with refused(small, "adapter.tar.gz"), pytest.raises(StoreError):
            train(small, dataset)
    finally:
        os.umask(before)
    root = Path(small.resources.settings.store.spool)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert {modes[path] for path in modes if path.is_dir()} == {0o700}
    assert {modes[path] for path in modes if path.is_file()} == {0o600}


def test_a_failing_disk_does_not_hide_the_stores_error(small: Loop, tmp_path: Path) -> None:
    dataset = prepare(small)
    (tmp_path / "spool").write_text("no directory")
    with refused(small, "adapter.tar.gz"), pytest.raises(StoreError, match="could not be kept") as raised:
        train(small, dataset)
    assert str(spool_of(small, dataset)) in str(raised.value)


def test_a_disk_that_fills_up_holds_no_half_written_candidate(
    small: Loop, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, synced = prepare(small), list[int]()

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:  # the archive is complete, the record is not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with refused(small, "adapter.tar.gz"), pytest.raises(StoreError, match="No space left on device"):
        train(small, dataset)
    assert [path.name for path in spool_of(small, dataset).iterdir()] == [spool.ARCHIVE]
    train(small, dataset)
    assert events("train.continued") == events("train.spool_damaged") == 0


def test_a_killed_training_continues_from_the_bucket_and_ends_with_the_same_weights(
    small: Loop, events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = prepare(small)
    with killed_at(8):
        train(small, dataset)
    checkpoints = keys(small, manifest.run_key(dataset.run_key, "checkpoints/"))
    assert [key.rsplit("/", 1)[-1] for key in checkpoints] == ["00000006.tar.gz"], "only the newest is kept"

    for place in ("work", "temporary", "spool"):
        (tmp_path / "another worker" / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "another worker" / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "another worker" / "temporary"))
    resumed = train(small.with_settings(store={"spool": str(tmp_path / "another worker" / "spool")}), dataset)
    assert (resumed.training.resumed_at_step, resumed.training.steps) == (6, 8)
    assert list((tmp_path / "another worker").glob("*/*")) == [], "nothing is left on the worker"

    staged = keys(small, manifest.run_key(dataset.run_key, ""))
    small.resources.store.delete(staged.keys() - {manifest.run_key(dataset.run_key, "dataset.parquet")})
    whole = train(small, dataset)
    assert whole.training.resumed_at_step == 0
    assert (resumed.sha256, resumed.training.curve) == (whole.sha256, whole.training.curve)


@pytest.mark.parametrize("harm", ["no archive", "incomplete"])
def test_an_unreadable_checkpoint_loses_its_steps_and_not_the_run(
    small: Loop, events: Any, tmp_path: Path, harm: str
) -> None:
    dataset, packed = prepare(small), tmp_path / "checkpoint.tar.gz"
    packed.write_bytes(b"no archive")
    if harm == "incomplete":
        (tmp_path / "part").mkdir()
        (tmp_path / "part" / "optimizer.pt").write_bytes(b"moments")
        archive.pack(tmp_path / "part", packed)
    small.resources.store.put_file(manifest.run_key(dataset.run_key, "checkpoints/00000003.tar.gz"), packed)
    candidate = train(small, dataset)
    assert events("train.checkpoint_unreadable") == 1
    assert (candidate.training.resumed_at_step, candidate.training.steps) == (0, 8)


def test_a_store_that_rejects_a_checkpoint_does_not_stop_the_training(small: Loop, events: Any) -> None:
    dataset = prepare(small)
    with refused(small, "3.tar.gz"):
        candidate = train(small, dataset)
    assert events("train.checkpoint_lost") == 1
    assert candidate.training.steps == 8
    assert [key[-15:] for key in keys(small, manifest.run_key(dataset.run_key, "checkpoints/"))] == ["00000006.tar.gz"]


def test_a_staged_candidate_is_not_trained_again(small: Loop, events: Any) -> None:
    dataset = prepare(small)
    first = train(small, dataset)
    written, steps = keys(small), events("train.progress")
    assert train(small, dataset) == first
    assert keys(small) == written
    assert (events("train.start"), events("train.progress")) == (1, steps)
