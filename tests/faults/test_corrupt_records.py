"""A step's corrupt record counts as missing: its result is computed again."""

import json
from pathlib import Path

import pytest

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.registry import manifest
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import spool, staging
from learning_engine.steps.resources import Resources
from tests.object_stores import new_bucket

# Stored without a digest, as by another program.
CORRUPT = {
    "cut short": b'{"record": ',
    "another kind of JSON": b"[]",
    "another schema": json.dumps({"record": "Candidate", "schema": 99}).encode(),
    "not text": b"\xff\xfe\x00",
}


def must_not_open() -> None:
    raise AssertionError("must not be opened")


@pytest.fixture
def resources(moto: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resources:
    """An empty bucket and a spool."""
    monkeypatch.setenv("LEARNING_ENGINE__STORE__SPOOL", str(tmp_path))
    store = new_bucket(moto)
    return Resources(config.load(), lambda: store, must_not_open, must_not_open)


def put(resources: Resources, key: str, data: bytes) -> None:
    store = resources.store
    store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=data)


@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_candidate_is_trained_again(resources: Resources, data: bytes) -> None:
    put(resources, manifest.run_key("run", manifest.CANDIDATE), data)
    assert staging.staged(resources, "run") is None


@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_candidate_on_the_worker_s_disk_is_trained_again(resources: Resources, data: bytes) -> None:
    directory = spool.place(resources.settings.store, "run")
    directory.mkdir(parents=True)
    (directory / manifest.CANDIDATE).write_bytes(data)
    (directory / spool.ARCHIVE).write_bytes(b"weights")
    assert staging.spooled(resources, "run") is None


def test_a_candidate_on_the_worker_s_disk_without_its_archive_is_trained_again(resources: Resources) -> None:
    directory = spool.place(resources.settings.store, "run")
    directory.mkdir(parents=True)
    (directory / manifest.CANDIDATE).write_bytes(b"{}")
    assert staging.spooled(resources, "run") is None


@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_fisher_information_is_measured_again(resources: Resources, data: bytes) -> None:
    put(resources, manifest.fisher_key("v1.0", manifest.FISHER_RECORD), data)
    assert fisher_step._stored(resources, "v1.0") is None
