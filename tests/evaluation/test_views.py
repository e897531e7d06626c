"""Candidate, parent and base over one loaded base model, each equal to a separately loaded model."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import ModelError
from learning_engine.evaluation.views import View, Views, load_views
from tests import tiny

IDS = torch.tensor([[1, 5, 40, 41, 42, 2], [1, 5, 90, 17, 2, 2]])


@pytest.mark.parametrize("view", ["candidate", "parent", "base"])
@torch.no_grad()
def test_a_view_equals_its_separate_model(views: Views, separate: dict[str, Any], view: View) -> None:
    with views.using(view):
        logits = views.logits(IDS)
        some = views.logits(IDS, torch.tensor([1, 4]))
    torch.testing.assert_close(logits, separate[view](IDS).logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(some, logits[:, [1, 4]])


@torch.no_grad()
def test_a_view_does_not_depend_on_earlier_views(views: Views, separate: dict[str, Any]) -> None:
    for view in ("parent", "parent", "candidate", "base", "parent", "base", "candidate", "parent"):
        with views.using(view):
            logits = views.logits(IDS)
        torch.testing.assert_close(logits, separate[view](IDS).logits, rtol=0, atol=1e-5)


def test_the_views_differ(separate: dict[str, Any]) -> None:
    for one, other in itertools.combinations(separate.values(), 2):
        assert not torch.allclose(one(IDS).logits, other(IDS).logits, atol=0.1)


@torch.no_grad()
def test_without_a_parent_its_view_is_the_base(first: Views, separate: dict[str, Any]) -> None:
    with first.using("parent"):
        torch.testing.assert_close(first.logits(IDS), separate["base"](IDS).logits, rtol=0, atol=1e-5)


def test_nothing_is_trainable_after_switching(views: Views) -> None:
    for view in ("parent", "base", "candidate"):
        with views.using(view):
            assert not any(parameter.requires_grad for parameter in views.model.parameters())


def test_a_parent_of_another_shape_is_rejected(model: sections.Model, candidate: Path, tmp_path: Path) -> None:
    other = tiny.make_adapter(Path(model.base), tmp_path, seed=1, rank=4)
    with pytest.raises(ModelError, match="rank 4"):
        load_views(model, sections.Lora(), candidate=candidate, parent=other)
