"""The progress of a running training, written to the bucket without delaying it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from learning_engine.records.contracts import Dataset, TrainingProgress
from learning_engine.registry import manifest, retention
from learning_engine.registry.audit import audit
from learning_engine.steps import progress
from tests.steps.attempts import hooked, killed_at, prepare, refused, train
from tests.steps.conftest import Loop

SLOW_SECONDS = 2.0


def stored_progress(loop: Loop, dataset: Dataset) -> TrainingProgress:
    return loop.resources.store.get_record(manifest.run_key(dataset.run_key, "progress.json"), TrainingProgress)


def fields(step: int) -> dict[str, Any]:
    """The fields that `trainer.train` passes to `on_log`."""
    losses = {"task_loss": 1.0 / step, "ewc_loss": 0.1 * step, "learning_rate": 1e-3}
    pace = {"tokens_per_second": 100.0, "eta_seconds": 5.0, "gpu_utilisation": None, "peak_memory_bytes": 7}
    return {"step": step, "of": 1000, **losses, **pace}


@contextmanager
def writes(loop: Loop, *, slowed: float = 0.0) -> Iterator[list[int]]:
    """The steps of the updates written to the store, each delayed by `slowed` seconds."""
    steps: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith("progress.json"):
            time.sleep(slowed)
            steps.append(json.loads(params["body"].getvalue())["step"])

    with hooked(loop, "before-call.s3.PutObject", note):
        yield steps


def test_the_bucket_has_the_progress_of_a_training(small: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)
    dataset = prepare(small)
    with writes(small) as steps:
        candidate = train(small, dataset)
    found = stored_progress(small, dataset)
    assert steps[0] == 1
    assert steps == sorted(set(steps))
    assert (found.step, found.of, found.eta_seconds) == (8, 8, 0.0)
    assert found.curve == candidate.training.curve
    assert (found.task_loss, found.ewc_loss) == found.curve[-1][1:]
    assert found.peak_memory_bytes > 50 * 1024**2
    assert timedelta(0) < datetime.now(UTC) - found.updated_at < timedelta(minutes=1)
    assert candidate.training.device_memory_bytes is None, "there is no GPU"


def test_updates_come_every_few_seconds_and_at_the_last_step(small: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 600.0)
    dataset = prepare(small)
    with writes(small) as steps:
        train(small, dataset)
    assert steps == [1, 8]


def test_after_a_retry_the_curve_continues_from_the_checkpoint(
    small: Loop, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)
    dataset = prepare(small)
    with killed_at(8):
        train(small, dataset)
    assert [step for step, _, _ in stored_progress(small, dataset).curve] == list(range(1, 8))
    before = stored_progress(small, dataset).curve
    candidate = train(small, dataset)
    assert candidate.training.resumed_at_step == 6
    found = stored_progress(small, dataset).curve
    assert found == candidate.training.curve
    assert found[:6] == before[:6]
    assert [step for step, _, _ in found] == list(range(1, 9))


def test_a_training_that_returns_to_a_checkpoint_replaces_the_curve_from_there(loop: Loop) -> None:
    with progress.Reporter(loop.resources.store, "run", [(1, 2.0, 0.0), (2, 1.5, 0.0)]) as reporter:
        for step in (3, 4, 5, 3, 4):
            reporter.report(fields(step))
    found = loop.resources.store.get_record(manifest.run_key("run", "progress.json"), TrainingProgress)
    assert [step for step, _, _ in found.curve] == [1, 2, 3, 4]


def test_a_long_curve_is_thinned(loop: Loop) -> None:
    with progress.Reporter(loop.resources.store, "run", []) as reporter:
        for step in range(1, 1001):
            reporter.report(fields(step))
    found = loop.resources.store.get_record(manifest.run_key("run", "progress.json"), TrainingProgress)
    assert (len(found.curve), found.curve[-1][0]) == (200, 1000)


def test_a_slow_store_loses_updates_and_does_not_delay_the_training(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.0)
    with writes(loop, slowed=SLOW_SECONDS) as steps:
        with progress.Reporter(loop.resources.store, "run", []) as reporter:
            began = time.perf_counter()
            for step in range(1, 201):
                reporter.report(fields(step))
            reported = time.perf_counter() - began
        ended = time.perf_counter() - began
    assert reported < SLOW_SECONDS / 4, "200 steps did not wait for a single write"
    assert steps == [1, 200], "updates during a write are dropped, and the last one is written"
    assert ended < 2 * SLOW_SECONDS + 1


def test_a_store_that_never_answers_does_not_block_the_end(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EXIT_TIMEOUT_SECONDS", 0.2)
    answer = threading.Event()
    monkeypatch.setattr(loop.resources.store, "put_json", lambda *_: answer.wait())
    began = time.perf_counter()
    with progress.Reporter(loop.resources.store, "run", []) as reporter:
        reporter.report(fields(1))
        reporter.report(fields(2))
    assert time.perf_counter() - began < 2
    answer.set()


def test_a_store_that_rejects_updates_does_not_stop_the_training(small: Loop, events: Any) -> None:
    dataset = prepare(small)
    with refused(small, "progress.json"):
        candidate = train(small, dataset)
    assert events("train.progress_lost") == 2
    assert candidate.training.steps == 8
    assert not small.resources.store.exists(manifest.run_key(dataset.run_key, "progress.json"))


def test_retention_deletes_progress_with_its_run_and_the_audit_ignores_it(small: Loop) -> None:
    dataset, r = prepare(small), small.resources
    train(small, dataset)
    assert audit(r.store, r.registry) == []
    later = datetime.now(UTC) + timedelta(days=r.settings.retention.runs_days + 1)
    retention.sweep(r.store, r.registry, r.ledger, r.settings.retention, now=later)
    assert not r.store.exists(manifest.run_key(dataset.run_key, "progress.json"))
    assert audit(r.store, r.registry) == []
