"""Probes: prompts whose greedy answer only the candidate gives, to prove which weights a server runs.

For the candidate's greedy answer y_1 … y_k to a prompt, in nats (a difference of logits is one of log-probabilities):
  confidence(e) = min over t ≤ e of the candidate's first choice minus its second: no token up to e can flip;
  separation(e) = max over t ≤ e of a reference's first choice minus y_t: the reference gives another token by then.
A probe ends at the e with the largest margin, min(confidence, separation from the parent, separation from the base).
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

# Each deployment sends the probes to every replica, and longer prompts prove no more.
MAX_PROMPT_TOKENS = 1024
ROUND = 64


@dataclass(frozen=True)
class _Answer:
    """A prompt and the candidate's greedy answer. `ends` lists the positions where a probe may end, with margins."""

    messages: Messages
    prompt: list[int]
    tokens: list[int]
    ends: list[tuple[int, float]]


@dataclass(frozen=True)
class _Limits:
    """The limits of a probe: at most `tokens` tokens, with a margin of at least `margin` nats."""

    tokens: int
    margin: float
    batch_size: int


def ends(
    candidate: npt.NDArray[np.float64], references: npt.NDArray[np.float64], *, margin: float
) -> list[tuple[int, float]]:
    """Positions where a probe may end with a margin of at least `margin` nats, with their margins, largest first.

    `candidate` (tokens,) and `references` (references, tokens) are the leads of the candidate's tokens: by how many
    nats each model prefers them to the best other token.
    """
    confidence = np.minimum.accumulate(candidate)
    separation = np.maximum.accumulate(-references, axis=1).min(axis=0)
    margins = np.minimum(confidence, separation)
    # A tie, with a margin of 0, distinguishes nothing.
    reached = [
        place for place in np.argsort(-margins, kind="stable") if margins[place] >= margin and margins[place] > 0
    ]
    return [(int(place), float(margins[place])) for place in reached]


def find(
    views: Views, candidates: Sequence[Messages], *, count: int, tokens: int, margin: float, batch_size: int
) -> list[Probe]:
    """At most `count` probes of at most `tokens` tokens with a margin of at least `margin` nats, largest margin first.

    Prompts are tried in order, ROUND at a time, until there are enough probes.
    """
    limits = _Limits(tokens, margin, batch_size)
    rendered, probes = _rendered(views.tokenizer, candidates), list[Probe]()
    while rendered and len(probes) < count:
        probes += _search(views, rendered[:ROUND], limits)
        rendered = rendered[ROUND:]
    return sorted(probes, key=lambda probe: -probe.margin)[:count]


@torch.no_grad()
def _search(views: Views, rendered: Sequence[tuple[Messages, list[int]]], limits: _Limits) -> list[Probe]:
    prompts = [prompt for _, prompt in rendered]
    answers = greedy.answers(views, "candidate", prompts, tokens=limits.tokens, batch_size=limits.batch_size)
    candidate = _leads(views, "candidate", prompts, answers, batch_size=limits.batch_size)
    references = [_leads(views, view, prompts, answers, batch_size=limits.batch_size) for view in _references(views)]
    separated = [
        _Answer(messages, prompt, answers[row], found)
        for row, (messages, prompt) in enumerate(rendered)
        if (found := ends(candidate[row], np.stack([leads[row] for leads in references]), margin=limits.margin))
    ]
    others = [
        greedy.answers(
            views, view, [answer.prompt for answer in separated], tokens=limits.tokens, batch_size=limits.batch_size
        )
        for view in _references(views)
    ]
    probes = [_probe(views.tokenizer, answer, theirs) for answer, *theirs in zip(separated, *others, strict=True)]
    return [probe for probe in probes if probe]


def _references(views: Views) -> list[View]:
    return ["parent", "base"] if views.has_parent else ["base"]


def _rendered(tokenizer: Any, candidates: Sequence[Messages]) -> list[tuple[Messages, list[int]]]:
    """The distinct prompts of at most MAX_PROMPT_TOKENS tokens, with their token ids."""
    unique = {json.dumps(messages, sort_keys=True): messages for messages in candidates}.values()
    rendered = [(messages, render(tokenizer, messages)) for messages in unique]
    return [(messages, ids) for messages, ids in rendered if len(ids) <= MAX_PROMPT_TOKENS]


def _leads(
    views: Views, view: View, prompts: Sequence[list[int]], answers: Sequence[list[int]], *, batch_size: int
) -> list[npt.NDArray[np.float64]]:
    """The leads of each answer: by how many nats `view`, teacher-forced, prefers each token to the best other one."""
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
    """The probe of the largest margin whose text is readable and differs from the references'; None without one."""
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
