"""Probes in real generation: the candidate gives their tokens, its parent and the base do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_engine.config import sections
from learning_engine.evaluation import probes
from learning_engine.evaluation.probes import ends, find
from learning_engine.evaluation.prompts import read, render
from learning_engine.evaluation.views import Views, load_views
from learning_engine.learning import model as models
from learning_engine.records.probe import Probe
from tests.evaluation.conftest import FIRST, LORA, SECOND, ask, encode_answers, teach

LESSONS = [ask(thing) for thing in (*FIRST, *SECOND)]
EVERY: dict[str, Any] = {"count": 64, "tokens": 12, "margin": 0.1, "batch_size": 8}


def generate(model: Any, tokenizer: Any, probe: Probe) -> list[int]:
    """The greedy answer of one model to one prompt, without batching and padding."""
    prompt = torch.tensor([render(tokenizer, probe.messages)])
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=len(probe.tokens), do_sample=False
    )
    return output[0, prompt.shape[1] :].tolist()


def text(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True).strip()


@torch.no_grad()
def lead(model: Any, prompt: list[int], tokens: list[int]) -> np.ndarray:
    """By how many nats the model prefers each token to the best other one, from one forward pass without batching."""
    log_p = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    own = log_p[torch.arange(len(tokens)), tokens]
    log_p[torch.arange(len(tokens)), tokens] = -np.inf
    return (own - log_p.max(dim=-1).values).numpy()


def test_only_the_candidate_generates_a_probe(views: Views, separate: dict[str, Any]) -> None:
    found = find(views, [*LESSONS, *read(None, limit=24)], count=64, tokens=12, margin=0.5, batch_size=5)
    assert len(found) >= len(SECOND)
    for probe in found:
        assert generate(separate["candidate"], views.tokenizer, probe) == probe.tokens
        for other in ("parent", "base"):
            theirs = generate(separate[other], views.tokenizer, probe)
            assert theirs != probe.tokens
            assert text(views.tokenizer, theirs) != probe.text.strip()


def test_the_margin_equals_the_leads_of_each_model(views: Views, separate: dict[str, Any]) -> None:
    for probe in find(views, LESSONS, count=64, tokens=12, margin=0.5, batch_size=3):
        prompt = render(views.tokenizer, probe.messages)
        sure = lead(separate["candidate"], prompt, probe.tokens).min()
        apart = [(-lead(separate[other], prompt, probe.tokens)).max() for other in ("parent", "base")]
        assert probe.margin == pytest.approx(min(sure, *apart), abs=1e-3)
        assert probe.margin >= 0.5


@pytest.mark.parametrize(
    ("candidate", "references", "found"),
    [
        # The parent diverges at the first token, the base at the second: from there, both differ from the candidate.
        ([3.0, 4.0, 5.0], [[-2.0, 1.0, 1.0], [1.0, -1.5, 1.0]], [(1, 1.5), (2, 1.5)]),
        # A later token may separate more clearly, but every token up to it needs confidence.
        ([3.0, 2.5, 0.4], [[-1.0, -6.0, -9.0]], [(1, 2.5), (0, 1.0)]),
        ([0.4, 9.0], [[-9.0, -9.0]], []),
        ([9.0, 9.0], [[-9.0, -9.0], [1.0, -0.9]], []),
        ([9.0, np.nan], [[-3.0, -3.0]], [(0, 3.0)]),
    ],
)
def test_a_probe_ends_where_both_references_diverged_and_no_token_can_flip(
    candidate: list[float], references: list[list[float]], found: list[tuple[int, float]]
) -> None:
    assert ends(np.array(candidate), np.array(references), margin=1.0) == found


def test_a_tie_proves_nothing() -> None:
    assert ends(np.array([2.0]), np.array([[0.0]]), margin=0.0) == []
    assert ends(np.array([0.0]), np.array([[-2.0]]), margin=0.0) == []


def test_the_largest_margins_come_first_and_count_is_the_limit(views: Views) -> None:
    every = find(views, [*LESSONS, *LESSONS], count=64, tokens=12, margin=0.1, batch_size=8)
    margins = [probe.margin for probe in every]
    assert margins == sorted(margins, reverse=True)
    assert len({str(probe.messages) for probe in every}) == len(every) <= len(LESSONS)
    assert [probe.tokens for probe in find(views, LESSONS, count=2, tokens=12, margin=0.1, batch_size=8)] == [
        probe.tokens for probe in every[:2]
    ]


def test_later_prompts_are_tried_only_if_earlier_ones_give_too_few_probes(
    views: Views, unchanged: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest_last = [probe.messages for probe in reversed(find(views, LESSONS, **EVERY))]
    monkeypatch.setattr(probes, "ROUND", 2)
    early = find(views, largest_last, **(EVERY | {"count": 2}))
    assert len(largest_last) >= 4
    assert {str(probe.messages) for probe in early} == {str(messages) for messages in largest_last[:2]}
    assert len(find(views, largest_last, **(EVERY | {"count": 3}))) == 3
    assert find(unchanged, LESSONS, **EVERY) == []


def test_different_tokens_with_the_same_text_prove_nothing(views: Views) -> None:
    one, parts = (views.tokenizer.encode(text, add_special_tokens=False) for text in ("at", "a"))
    parts += views.tokenizer.encode("t", add_special_tokens=False)
    end = views.tokenizer.eos_token_id
    answer = probes._Answer(ask("house"), [1], parts, [(1, 3.0)])
    assert len(one) == 1
    assert probes._probe(views.tokenizer, answer, [[*one, end]]) is None
    assert probes._probe(views.tokenizer, answer, [[end, end]]) == Probe(ask("house"), parts, "at", 3.0)


def test_the_text_of_a_probe_is_readable(views: Views) -> None:
    for probe in find(views, read(None, limit=24), count=64, tokens=12, margin=0.0, batch_size=8):
        assert probe.text == views.tokenizer.decode(probe.tokens, skip_special_tokens=True)
        assert probe.text.strip()
        assert "\ufffd" not in probe.text
        assert 1 <= len(probe.tokens) <= 12


def test_an_empty_answer_gives_no_probe(model: sections.Model, parent: Path, tmp_path: Path) -> None:
    tokenizer = models.load_tokenizer(model)
    mute = teach(model, encode_answers(tokenizer, dict.fromkeys(SECOND, "")), tmp_path, start=parent)
    views = load_views(model, LORA, candidate=mute, parent=parent)
    prompts = [ask(thing) for thing in SECOND]
    answers = [generate(views.model, tokenizer, Probe(prompt, [0], "", 1.0)) for prompt in prompts]
    assert answers == [[tokenizer.eos_token_id]] * len(SECOND)
    assert find(views, prompts, count=4, tokens=12, margin=0.1, batch_size=8) == []


def test_padding_changes_nothing(views: Views) -> None:
    prompts = [*LESSONS, *read(None, limit=24)]
    one, many = (
        {
            str(probe.messages): probe.tokens
            for probe in find(views, prompts, count=64, tokens=12, margin=0.1, batch_size=size)
        }
        for size in (1, 16)
    )
    assert one == many
    assert len({len(render(views.tokenizer, prompt)) for prompt in prompts if str(prompt) in one}) > 3


def test_a_candidate_equal_to_its_parent_has_no_probe(unchanged: Views) -> None:
    for margin in (0.0, 0.5):
        assert find(unchanged, LESSONS, count=4, tokens=12, margin=margin, batch_size=8) == []


def test_a_first_version_is_distinguished_from_its_base(first: Views, separate: dict[str, Any]) -> None:
    found = find(first, LESSONS, count=4, tokens=12, margin=0.5, batch_size=8)
    assert found
    for probe in found:
        assert generate(separate["parent"], first.tokenizer, probe) == probe.tokens
        assert generate(separate["base"], first.tokenizer, probe) != probe.tokens


def test_no_prompt_reaches_an_excessive_margin(views: Views) -> None:
    assert find(views, LESSONS, count=4, tokens=12, margin=20.0, batch_size=8) == []


def test_no_prompt_and_a_too_long_prompt_give_no_probe(views: Views) -> None:
    long = [{"role": "user", "content": "house " * 2000}]
    assert find(views, [], count=4, tokens=12, margin=0.5, batch_size=8) == []
    assert find(views, [long], count=4, tokens=12, margin=0.0, batch_size=8) == []


def test_the_models_own_generation_config_changes_nothing(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = find(views, LESSONS, count=4, tokens=12, margin=0.5, batch_size=8)
    monkeypatch.setattr(views.model.generation_config, "repetition_penalty", 5.0)
    monkeypatch.setattr(views.model.generation_config, "do_sample", True)
    assert find(views, LESSONS, count=4, tokens=12, margin=0.5, batch_size=8) == plain
