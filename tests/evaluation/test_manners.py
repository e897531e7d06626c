"""What is left of the base model in its own conversations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_engine.config import sections
from learning_engine.evaluation import manners
from learning_engine.evaluation.views import Views, load_views
from learning_engine.learning import model as models
from learning_engine.learning.batches import IGNORED
from tests.evaluation.conftest import FIRST, LORA, encode


@torch.no_grad()
def test_the_figures_equal_those_computed_row_by_row(views: Views, separate: dict[str, Any]) -> None:
    examples = encode(views.tokenizer, FIRST)
    same, losses, divergences = [], {"candidate": [], "base": []}, []
    for row in examples:
        labels = np.array(row["labels"][1:])
        at = labels != IGNORED
        p = {
            name: separate[name](torch.tensor([row["input_ids"]])).logits[0, :-1].double().softmax(-1).numpy()[at]
            for name in losses
        }
        same += (p["candidate"].argmax(1) == p["base"].argmax(1)).tolist()
        for name, found in losses.items():
            found += (-np.log(p[name][np.arange(at.sum()), labels[at]])).tolist()
        divergences += (p["base"] * np.log(p["base"] / p["candidate"])).sum(1).tolist()
    found = manners.of_base(views, examples, batch_size=3)
    assert found.conversations == len(examples)
    assert found.left == pytest.approx(np.mean(same))
    assert found.left < 1
    assert found.loss == pytest.approx(np.mean(losses["candidate"]), rel=1e-4)
    assert found.loss_base == pytest.approx(np.mean(losses["base"]), rel=1e-4)
    assert found.kl == pytest.approx(np.mean(divergences), rel=1e-3)


def test_of_the_base_itself_all_is_left(model: sections.Model, tmp_path: Path) -> None:
    models.save_adapter(models.load(model, LORA, adapter=None, trainable=False, seed=0), tmp_path)
    untrained = load_views(model, LORA, candidate=tmp_path, parent=None)
    found = manners.of_base(untrained, encode(untrained.tokenizer, FIRST), batch_size=3)
    assert (found.left, found.loss) == (1.0, found.loss_base)
    assert found.kl == pytest.approx(0.0, abs=1e-6)


def test_without_an_answer_nothing_is_measured(views: Views) -> None:
    found = manners.of_base(views, encode(views.tokenizer, FIRST).select([]), batch_size=3)
    assert (found.conversations, found.left) == (0, None)
