"""Greedy answers and their length."""

from typing import Any

import pytest
import torch

from learning_engine.evaluation import greedy, measure
from learning_engine.evaluation.prompts import render
from learning_engine.evaluation.views import Views
from tests.evaluation.conftest import SECOND, ask
from tests.evaluation.test_evaluate import GATE, SETTINGS, judged, rule


@torch.no_grad()
def by_hand(model: Any, prompt: list[int], *, tokens: int, stop: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + tokens and (len(ids) == len(prompt) or ids[-1] != stop):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch_size", [1, 16])
def test_answers_end_with_their_turn_or_at_the_limit(views: Views, alone: dict[str, Any], batch_size: int) -> None:
    prompts = [render(views.tokenizer, ask(thing)) for thing in (*SECOND, "tower with a flag", "coat")]
    for view in ("candidate", "parent", "base"):
        expected = [by_hand(alone[view], p, tokens=9, stop=views.tokenizer.eos_token_id) for p in prompts]
        assert greedy.answers(views, view, prompts, tokens=9, batch_size=batch_size) == expected
        mean = greedy.mean_length(views, view, prompts, tokens=9, batch_size=batch_size)
        assert mean == sum(map(len, expected)) / len(expected)


def test_without_a_prompt_there_is_no_length(views: Views) -> None:
    assert measure.lengths(views, [], SETTINGS).ratio is None


def test_a_candidate_that_became_brief_or_never_ends_is_refused(first: Views) -> None:
    """The first version answers in a sentence where its base babbles up to the limit."""
    prompts = [ask(thing) for thing in ("house", "river", "stone")]
    settings = SETTINGS.model_copy(update={"answer_tokens": 64})
    report = judged(first, prompts=prompts, evaluation=settings, earlier={}, history={}).report
    assert report.length_ratio is not None
    assert 0 < report.length_ratio < 0.9
    short = rule(report, "length")
    assert (short.passed, short.figure, short.comparison) == (True, report.length_ratio, ">=")
    strict = GATE.model_copy(update={"min_length_ratio": 0.95})
    refused = judged(first, prompts=prompts, evaluation=settings, earlier={}, history={}, gate=strict).report
    assert not rule(refused, "length").passed
