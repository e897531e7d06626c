"""Greedy answers and their length."""

from pathlib import Path
from typing import Any

import pytest
import torch

from learning_engine.config import sections
from learning_engine.evaluation import greedy, measure
from learning_engine.evaluation.prompts import render
from learning_engine.evaluation.views import Views, load_views
from tests import tiny
from tests.evaluation.conftest import FIRST, LORA, SECOND, ask, encode
from tests.evaluation.test_evaluate import GATE, SETTINGS, judged, rule


@torch.no_grad()
def by_hand(model: Any, prompt: list[int], *, tokens: int, stop: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + tokens and (len(ids) == len(prompt) or ids[-1] != stop):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch_size", [1, 16])
def test_answers_end_at_the_end_of_turn_or_at_the_limit(
    views: Views, separate: dict[str, Any], batch_size: int
) -> None:
    prompts = [render(views.tokenizer, ask(thing)) for thing in (*SECOND, "tower with a flag", "coat")]
    for view in ("candidate", "parent", "base"):
        expected = [by_hand(separate[view], p, tokens=9, stop=views.tokenizer.eos_token_id) for p in prompts]
        assert greedy.answers(views, view, prompts, tokens=9, batch_size=batch_size) == expected
        assert greedy.mean_length(expected) == sum(map(len, expected)) / len(expected)


def test_without_a_prompt_there_is_no_length_and_no_drift(views: Views) -> None:
    drift, lengths = measure.answers(views, [], SETTINGS)
    assert (lengths.ratio, drift.parent, drift.base) == (None, None, None)


@pytest.fixture(scope="session")
def brief(model: sections.Model, parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Views:
    """A candidate that answers in one sentence, while its parent babbles up to the limit."""
    babbling = tiny.make_adapter(Path(model.base), tmp_path_factory.mktemp("babbling"), seed=1, scale=0.01)
    return load_views(model, LORA, candidate=parent, parent=babbling)


def test_a_candidate_that_became_too_brief_is_rejected(brief: Views) -> None:
    settings = SETTINGS.model_copy(update={"answer_tokens": 64})
    asked = {"prompts": [ask(thing) for thing in FIRST], "evaluation": settings}
    arguments = asked | {"heldout": encode(brief.tokenizer, FIRST), "earlier": {}, "history": {}}
    report = judged(brief, **arguments).report
    found = rule(report, "length")
    assert report.accepted
    assert report.length_ratio < 0.5
    assert (found.passed, found.figure, found.comparison) == (True, report.length_ratio, ">=")
    rejected = judged(brief, **arguments, gate=GATE.model_copy(update={"min_length_ratio": 0.5})).report
    assert [failed.name for failed in rejected.rules if not failed.passed] == ["length"]


def test_a_first_version_may_have_any_answer_length(first: Views) -> None:
    strict = GATE.model_copy(update={"min_length_ratio": 1.0, "max_length_ratio": 1.0})
    report = judged(first, heldout=encode(first.tokenizer, FIRST), earlier={}, history={}, gate=strict).report
    assert report.length_ratio is None
    assert (rule(report, "length").passed, rule(report, "length").figure) == (True, None)
    assert report.accepted
