"""Replay: a week keeps a few rows, and later weeks are trained on them again."""

import json
import logging
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from learning_engine import archive
from learning_engine.records.contracts import AdapterVersion, Candidate
from learning_engine.registry import card, retention
from learning_engine.registry.audit import audit
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests.steps.attempts import hooked, killed_at
from tests.steps.conftest import Loop, feedback_rows, week

REPLAY = 4


@pytest.fixture
def replaying(loop: Loop) -> Loop:
    loop.teach(0, 1, 2)
    return loop.with_settings(training={"replay": 0.5, "replay_rows": REPLAY, "epochs": 1.0})


def rows(loop: Loop, uri: str | None, path: Path) -> list[dict[str, Any]]:
    assert uri is not None
    loop.resources.store.get_file(loop.resources.store.key(uri), path)
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def own_examples(loop: Loop, version: AdapterVersion, path: Path) -> int:
    return sum(not row["heldout"] for row in rows(loop, version.dataset.uri, path))


def train(loop: Loop, number: int) -> Candidate:
    dataset = extract_step.extract(loop.resources, week(number), widen=True)
    return train_step.train(loop.resources, dataset, fisher_step.fisher(loop.resources, dataset))


@pytest.mark.parametrize("objective", ["kto", pytest.param("weighted_sft", marks=pytest.mark.stack)])
def test_each_week_is_also_trained_on_the_rows_kept_from_earlier_weeks(replaying: Loop, objective: str, tmp_path: Path):
    loop = replaying.with_settings(training={"objective": objective})
    chain = [loop.learn(week(number)) for number in range(3)]
    assert [version.parent for version in chain] == [None, "v1.0", "v1.1"]
    assert [version.training.replayed for version in chain] == [0, REPLAY, 2 * REPLAY]
    for version in chain:
        assert version.replay_uri == loop.resources.store.uri(f"replay/{version.version}/replay.parquet")
        own = own_examples(loop, version, tmp_path / "dataset.parquet")
        assert version.training.examples == own + version.training.replayed
    assert "| Replayed | 8 of these, from earlier windows or the anchor |" in card.render(chain[2])
    assert audit(loop.resources.store, loop.resources.registry) == []


def test_rows_disliked_in_a_later_week_are_no_longer_replayed(replaying: Loop, tmp_path: Path):
    first = replaying.learn(week(0))
    kept = rows(replaying, first.replay_uri, tmp_path / "first.parquet")
    messages = {row["message"] for row in kept}
    later = (week(1).start + timedelta(days=3)).isoformat()
    again = [{**row, "created_at": later, "feedback_type": "thumbs_down"} for row in feedback_rows(0)]
    with replaying.feedback.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in again)
    second = replaying.learn(week(1))
    withdrawn = {
        row["message"] for row in rows(replaying, second.replay_uri, tmp_path / "second.parquet") if row["rating"] < 0
    }
    assert withdrawn == messages
    assert train(replaying, 2).training.replayed == REPLAY, "what the second week liked"


@pytest.mark.stack
def test_only_liked_rows_that_are_not_held_out_are_kept(replaying: Loop, tmp_path: Path):
    version = replaying.learn(week(0))
    kept = rows(replaying, version.replay_uri, tmp_path / "replay.parquet")
    window = rows(replaying, version.dataset.uri, tmp_path / "dataset.parquet")
    assert len(kept) == REPLAY
    assert all(row in window and row["rating"] > 0 and not row["heldout"] for row in kept)
    again = replaying.with_prefix("again")
    assert rows(again, train(again, 0).replay_uri, tmp_path / "again.parquet") == kept
    seeded = replaying.with_settings(training={"seed": 5})
    assert rows(seeded, train(seeded, 0).replay_uri, tmp_path / "seeded.parquet") != kept


def test_a_reservoir_larger_than_the_window_keeps_all_its_rows(replaying: Loop, tmp_path: Path):
    loop = replaying.with_settings(training={"replay_rows": 10_000})
    version = loop.learn(week(0))
    window = rows(loop, version.dataset.uri, tmp_path / "dataset.parquet")
    kept = rows(loop, version.replay_uri, tmp_path / "replay.parquet")
    assert kept == [row for row in window if row["rating"] > 0 and not row["heldout"]]
    few = train(loop.with_settings(training={"replay": 0.2}), 1).training
    own = few.examples - few.replayed
    assert few.replayed == round(own / 4) < len(kept), "a share of the training, however many rows are kept"


@pytest.mark.stack
def test_rows_deleted_by_retention_are_not_replayed_and_cause_no_error(replaying: Loop):
    store, settings = replaying.resources.store, replaying.resources.settings
    first, second = (replaying.learn(week(number)) for number in range(2))
    store.delete([store.key(str(first.replay_uri))])
    assert train(replaying, 2).training.replayed == REPLAY
    later = datetime.now(UTC) + timedelta(days=settings.retention.text_days + 1)
    # The sweep also deletes the run's candidate; otherwise the third week would not be trained again.
    swept = retention.sweep(
        store, replaying.resources.registry, replaying.resources.ledger, settings.retention, now=later
    )
    assert swept.objects["replay"] == 1
    assert not store.exists(store.key(str(second.replay_uri)))
    assert train(replaying, 2).training.replayed == 0


@contextmanager
def requested_urls(loop: Loop) -> Iterator[list[str]]:
    """The URLs requested from the store during the block."""
    asked: list[str] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        asked.append(unquote(params["url"]))

    with hooked(loop, "before-call.s3", note):
        yield asked


@pytest.mark.stack
def test_without_replay_nothing_is_kept_or_read(replaying: Loop):
    kept = replaying.learn(week(0))
    off = replaying.with_settings(training={"replay": 0})
    with requested_urls(off) as asked:
        version = off.learn(week(1))
    assert (version.parent, version.replay_uri, version.training.replayed) == (kept.version, None, 0)
    assert "Replayed" not in card.render(version)
    assert asked
    assert not [url for url in asked if "/replay/" in url or url.endswith("/replay.parquet")]


@pytest.fixture
def interrupted(replaying: Loop, caplog: pytest.LogCaptureFixture) -> Loop:
    """A loop whose second week's training was killed after a checkpoint."""
    loop = replaying.with_settings(training={"checkpoint_steps": 2, "log_steps": 1})
    loop.learn(week(0))
    caplog.set_level(logging.INFO, logger="learning_engine")
    with killed_at(4):
        train(loop, 1)
    return loop


@pytest.mark.stack
def test_a_killed_training_continues_with_its_replayed_rows(interrupted: Loop):
    training = train(interrupted, 1).training
    assert training.resumed_at_step > 0
    assert training.replayed == REPLAY


@pytest.mark.stack
def test_a_checkpoint_of_the_largest_adapter_is_read(interrupted: Loop, tmp_path: Path):
    """With the state of λ auto, a checkpoint is four times as large as the adapter."""
    parent = interrupted.resources.registry.get("v1.0")
    packed = tmp_path / "adapter.tar.gz"
    interrupted.resources.store.get_file(interrupted.resources.store.key(parent.uri), packed)
    archive.unpack(packed, tmp_path / "adapter", max_bytes=10**9)
    adapter = sum(file.stat().st_size + tarfile.BLOCKSIZE for file in (tmp_path / "adapter").iterdir())
    limited = interrupted.with_settings(serving={"max_adapter_bytes": adapter})
    assert train(limited, 1).training.resumed_at_step > 0


@pytest.mark.stack
def test_a_killed_training_restarts_if_its_reservoir_is_missing(interrupted: Loop):
    interrupted.resources.store.delete(["replay/v1.0/replay.parquet"])
    training = train(interrupted, 1).training
    assert (training.resumed_at_step, training.replayed) == (0, 0)
