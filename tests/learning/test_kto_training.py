import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_engine.learning import packing
from learning_engine.learning.batches import Rows
from learning_engine.learning.kto import answer_log_probs
from tests.learning.test_kto import batch_of
from tests.learning.test_trainer import ewc_penalty, snapshot, train


def test_the_reference_uses_the_precision_of_the_training(load, adapter, examples, tmp_path, monkeypatch):
    # Which tokens a batch shares changes the rounding of bf16, and the reference runs in other batches.
    monkeypatch.setattr(packing, "shared_prefix", lambda *_: 0)
    loaded = load(adapter, lora={"dropout": 0.0})
    metrics = train(loaded, examples, tmp_path, objective="kto", precision="bf16", batch_size=40, epochs=1)
    mean_weight = np.mean(examples["weight"])
    assert metrics.curve[0][1] == pytest.approx(mean_weight / 2, abs=1e-4)


def test_liked_answers_become_more_likely_and_disliked_ones_less(load, adapter, examples, tmp_path):
    loaded, rows = load(adapter), Rows(examples)
    whole = batch_of(rows, *range(len(rows)))
    # A parent that has learned all answers, liked and disliked.
    train(loaded, examples, tmp_path / "parent", epochs=12, learning_rate=1e-2)
    with torch.no_grad():
        before = answer_log_probs(loaded.model, whole)
    train(loaded, examples, tmp_path / "child", objective="kto", epochs=6)
    with torch.no_grad():
        change = answer_log_probs(loaded.model, whole) - before
    liked = whole["rating"] == 1
    assert change[liked].mean() > 1
    assert change[~liked].mean() < -1


# The adapter's dropout draws random numbers, and the EWC penalty is added to the loss.
@pytest.mark.parametrize("accumulation", [{}, {"batch_size": 4, "gradient_accumulation": 2}])
def test_a_resumed_training_keeps_the_parent_as_reference(load, adapter, examples, tmp_path, accumulation):
    settings = {"objective": "kto", "checkpoint_steps": 3, "epochs": 2, **accumulation}

    def keep(directory: Path) -> None:
        if directory.name == "checkpoint-6":
            shutil.copytree(directory, tmp_path / "kept")

    runs = []
    for name, more in (("whole", {"on_checkpoint": keep}), ("resumed", {"resume": tmp_path / "kept"})):
        loaded = load(adapter)
        metrics = train(
            loaded, examples, tmp_path / name, penalty=ewc_penalty(loaded, examples, 100.0), **settings, **more
        )
        runs.append((metrics, snapshot(loaded)))
    (whole, weights), (resumed, again) = runs
    assert resumed.resumed_at_step == 6
    assert resumed.curve == whole.curve
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert whole.curve[-1][2] > 0


def test_a_warning_says_that_disliked_answers_are_reinforced(load, examples, tmp_path, caplog):
    liked = examples.filter(lambda row: row["rating"] == 1, load_from_cache_file=False)
    for data, objective, expected in ((examples, "weighted_sft", 1), (liked, "weighted_sft", 0), (examples, "kto", 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="learning_engine"):
            train(load(), data, tmp_path / f"{objective}{expected}", objective=objective, epochs=1)
        warnings = [json.loads(record.message) for record in caplog.records if record.name == "learning_engine"]
        assert len(warnings) == expected
        if warnings:
            disliked = sum(rating < 0 for rating in examples["rating"])
            assert f"makes {disliked} disliked answers more likely" in warnings[0]["warning"]
