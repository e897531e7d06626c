"""A full disk is reported with its figures before any work that would fill it."""

import shutil
from typing import Any

import pytest

from learning_engine.errors import NoRoom
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import disk
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests.serving.conftest import ModelServer
from tests.steps.conftest import RUN, Loop, week


def nearly_full(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """The disk of every directory has `free` bytes left."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=free))


def test_training_is_refused_before_it_begins(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="learning_engine")
    loop.teach(0)
    dataset = extract_step.extract(loop.resources, week(0), widen=False)
    nearly_full(monkeypatch, 100 * 1024)
    with pytest.raises(NoRoom, match=r"Expected [\d.]+ MiB free in .* for checkpoints, .*, found 0\.1 MiB") as caught:
        train_step.train(loop.resources, dataset, fisher_step.fisher(loop.resources, dataset))
    assert caught.value.retryable, "another worker may have room"
    assert "train.progress" not in caplog.text
    assert loop.resources.registry.versions() == []


def test_a_server_whose_disk_is_full_never_sees_the_adapter(
    begun: Loop, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = begun
    (version,), before = loop.resources.registry.versions(), server.replica.models()
    nearly_full(monkeypatch, version.size)
    with pytest.raises(NoRoom, match=r"on the model server's disk, found"):
        deploy_step.deploy(loop.resources, version, run=RUN, decided_by="the gate")
    assert server.replica.models() == before
    assert list(loop.resources.serving.adapter_dir.iterdir()) == []


def test_a_directory_that_does_not_exist_yet_is_checked_on_its_disk(tmp_path: Any) -> None:
    disk.require(tmp_path / "not" / "yet", 1, what="a test")
    with pytest.raises(NoRoom, match=r"Expected [\d,.]+ MiB free in .*/not/yet for a test, found"):
        disk.require(tmp_path / "not" / "yet", shutil.disk_usage(tmp_path).free + 2**40, what="a test")
