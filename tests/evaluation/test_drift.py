"""Drift, compared with the KL divergence computed token by token."""

from typing import Any

import datasets
import numpy as np
import pytest
import torch

from learning_engine.evaluation.drift import on_answers, on_prompts
from learning_engine.evaluation.views import Views
from tests import tiny
from tests.evaluation.conftest import FIRST, encode

PROMPTS = [[1, 5, 40, 41, 42, 2], [1, 5], [1, 4, 17, 33, 2, 5]]
ANSWERS = [[60, 61], [90], [60, 61, 62, 2]]


@torch.no_grad()
def test_drift_equals_the_divergence_computed_token_by_token_of_the_answers(
    views: Views, separate: dict[str, Any]
) -> None:
    expected: dict[str, list[float]] = {"parent": [], "base": []}
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        p = {
            name: model(torch.tensor([prompt + answer])).logits[0].double().softmax(-1).numpy()
            for name, model in separate.items()
        }
        for reference, values in expected.items():
            divergence = (p[reference] * np.log(p[reference] / p["candidate"])).sum(axis=1)
            values += divergence[len(prompt) - 1 : -1].tolist()
    found = on_prompts(views, PROMPTS, ANSWERS, batch_size=2)
    assert found.parent == pytest.approx(np.mean(expected["parent"]), rel=1e-4)
    assert found.base == pytest.approx(np.mean(expected["base"]), rel=1e-4)
    assert abs(np.mean(expected["parent"]) - np.mean(expected["base"])) > 0.01


def test_without_a_parent_drift_is_from_the_base_and_without_an_answer_it_is_none(first: Views) -> None:
    found = on_prompts(first, PROMPTS, ANSWERS, batch_size=2)
    assert found.parent == found.base
    assert found.base is not None
    assert found.base > 0.01
    assert on_prompts(first, [], [], batch_size=2).parent is None


def test_an_unchanged_candidate_has_no_drift(unchanged: Views) -> None:
    assert on_prompts(unchanged, PROMPTS, ANSWERS, batch_size=2).parent == pytest.approx(0.0, abs=1e-7)


@torch.no_grad()
def test_drift_on_answers_counts_only_supervised_tokens(views: Views, separate: dict[str, Any]) -> None:
    examples = tiny.examples(views.tokenizer, 9, seed=2)
    expected: list[float] = []
    for row in examples:
        ids = torch.tensor([row["input_ids"]])
        p, q = (separate[name](ids).logits[0].double().softmax(-1) for name in ("parent", "candidate"))
        divergence = (p * (p / q).log()).sum(-1)[:-1]
        expected += divergence[torch.tensor(row["labels"][1:]) != -100].tolist()
    for size in (1, 4):
        assert on_answers(views, examples, batch_size=size) == pytest.approx(np.mean(expected), rel=1e-4)


def test_drift_on_answers_is_zero_if_unchanged_and_none_without_rows(unchanged: Views) -> None:
    examples = encode(unchanged.tokenizer, FIRST)
    assert on_answers(unchanged, examples, batch_size=2) == pytest.approx(0.0, abs=1e-7)
    assert on_answers(unchanged, datasets.Dataset.from_list([]), batch_size=2) is None
