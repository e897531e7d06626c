"""Probes: prompts whose greedy answer only the candidate gives, so that it proves which weights a server runs.

For the candidate's greedy answer y_1 … y_k to a prompt, in nats (a difference of logits is one of log-probabilities):
  sure(e)  = min over t ≤ e of the candidate's first choice over its second: no token up to e can flip;
  apart(e) = max over t ≤ e of the reference's first choice over y_t: the reference leaves the answer by then.
A probe ends at the e that makes its margin min(sure, apart of the parent, apart of the base) the widest.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from learning_engine.evaluation import greedy
from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.views import View, Views
from learning_engine.records.probe import Probe

# A probe is sent to every replica at every deployment: longer prompts prove no more.
MAX_PROMPT_TOKENS = 1024
ROUND = 64


@dataclass(frozen=True)
class _Answer:
    """A prompt and the candidate's greedy answer; `ends` are the places at which a probe may end, with its margin."""

    messages: Messages
    prompt: list[int]
    tokens: list[int]
    ends: list[tuple[int, float]]


@dataclass(frozen=True)
class _Search:
    """What a probe must be: at most `tokens` tokens with a margin of at least `margin` nats."""

    tokens: int
    margin: float
    batch_size: int


def ends(
    candidate: npt.NDArray[np.float64], references: npt.NDArray[np.float64], *, margin: float
) -> list[tuple[int, float]]:
    """Places at which a probe may end with a margin of at least `margin` nats, and their margins, the widest first.

    `candidate` (tokens,) and `references` (references, tokens) say by how much each prefers the candidate's token to
    the best other one.
    """
    sure = np.minimum.accumulate(candidate)
    apart = np.maximum.accumulate(-references, axis=1).min(axis=0)
    margins = np.minimum(sure, apart)
    # With a margin of 0 a tie would do, which tells nothing.
    reached = [
        place for place in np.argsort(-margins, kind="stable") if margins[place] >= margin and margins[place] > 0
    ]
    return [(int(place), float(margins[place])) for place in reached]


def find(
    views: Views, candidates: Sequence[Messages], *, count: int, tokens: int, margin: float, batch_size: int
) -> list[Probe]:
    """At most `count` probes of at most `tokens` tokens with a margin of at least `margin` nats, the widest first.

    Candidates are tried ROUND by ROUND in their order, until there are enough.
    """
    search = _Search(tokens, margin, batch_size)
    rendered, probes = _rendered(views.tokenizer, candidates), list[Probe]()
    while rendered and len(probes) < count:
        probes += _among(views, rendered[:ROUND], search)
        rendered = rendered[ROUND:]
    return sorted(probes, key=lambda probe: -probe.margin)[:count]


@torch.no_grad()
def _among(views: Views, rendered: Sequence[tuple[Messages, list[int]]], search: _Search) -> list[Probe]:
    prompts = [prompt for _, prompt in rendered]
    answers = greedy.answers(views, "candidate", prompts, tokens=search.tokens, batch_size=search.batch_size)
    candidate = _leads(views, "candidate", prompts, answers, batch_size=search.batch_size)
    references = [_leads(views, view, prompts, answers, batch_size=search.batch_size) for view in _references(views)]
    apart = [
        _Answer(messages, prompt, answers[row], found)
        for row, (messages, prompt) in enumerate(rendered)
        if (found := ends(candidate[row], np.stack([leads[row] for leads in references]), margin=search.margin))
    ]
    others = [
        greedy.answers(
            views, view, [answer.prompt for answer in apart], tokens=search.tokens, batch_size=search.batch_size
        )
        for view in _references(views)
    ]
    probes = [_probe(views.tokenizer, answer, theirs) for answer, *theirs in zip(apart, *others, strict=True)]
    return [probe for probe in probes if probe]


def _references(views: Views) -> list[View]:
    return ["parent", "base"] if views.has_parent else ["base"]


def _rendered(tokenizer: Any, candidates: Sequence[Messages]) -> list[tuple[Messages, list[int]]]:
    """Each prompt once, those that are short enough, with their token ids."""
    unique = {json.dumps(messages, sort_keys=True): messages for messages in candidates}.values()
    rendered = [(messages, render(tokenizer, messages)) for messages in unique]
    return [(messages, ids) for messages, ids in rendered if len(ids) <= MAX_PROMPT_TOKENS]


def _leads(
    views: Views, view: View, prompts: Sequence[list[int]], answers: Sequence[list[int]], *, batch_size: int
) -> list[npt.NDArray[np.float64]]:
    """For each answer, by how many nats `view` prefers each of its tokens to the best other one, teacher-forced."""
    whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    leads = [np.zeros(0) for _ in whole]
    with views.using(view):
        for batch in by_length(whole, batch_size=batch_size):
            ids, _ = pad([whole[row] for row in batch], value=0, device=views.device)
            # The position before a token predicts it.
            first = min(len(prompts[row]) for row in batch) - 1
            columns = torch.arange(first, ids.shape[1] - 1, device=views.device)
            logits, targets = views.logits(ids, columns).float(), ids[:, columns + 1].unsqueeze(-1)
            best_other = logits.scatter(-1, targets, -torch.inf).amax(dim=-1)
            lead = (logits.gather(-1, targets).squeeze(-1) - best_other).double().cpu().numpy()
            for place, row in enumerate(batch):
                start = len(prompts[row]) - 1 - first
                leads[row] = lead[place, start : start + len(answers[row])]
    return leads


def _probe(tokenizer: Any, answer: _Answer, theirs: Sequence[list[int]]) -> Probe | None:
    """The probe of the widest margin whose text can be read and is nobody else's; None where there is none."""
    for last, margin in answer.ends:
        tokens = answer.tokens[: last + 1]
        text = _decode(tokenizer, tokens)
        different = all(_decode(tokenizer, other[: last + 1]).strip() != text.strip() for other in theirs)
        if text.strip() and "\ufffd" not in text and different:
            return Probe(answer.messages, tokens, text, margin)
    return None


def _decode(tokenizer: Any, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text
