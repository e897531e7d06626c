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

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.views import View, Views
from learning_engine.probe import Probe

# A probe is sent to every replica at every deployment: longer prompts prove no more.
MAX_PROMPT_TOKENS = 1024


@dataclass(frozen=True)
class _Answer:
    """A prompt and the candidate's greedy answer; `margins`[e] is the margin of a probe that ends with token e."""

    messages: Messages
    prompt: list[int]
    tokens: list[int]
    margins: npt.NDArray[np.float64]


@torch.no_grad()
def find(
    views: Views, candidates: Sequence[Messages], *, count: int, tokens: int, margin: float, batch_size: int
) -> list[Probe]:
    """At most `count` probes of at most `tokens` tokens with a margin of at least `margin` nats, the widest first."""
    messages, prompts = _rendered(views.tokenizer, candidates)
    answers = _greedy(views, "candidate", prompts, tokens=tokens, batch_size=batch_size)
    margins = _margins(views, prompts, answers, batch_size=batch_size)
    found = [_Answer(*columns) for columns in zip(messages, prompts, answers, margins, strict=True)]
    apart = [answer for answer in found if _reaches(answer.margins, margin).any()]
    others = [
        _greedy(views, view, [answer.prompt for answer in apart], tokens=tokens, batch_size=batch_size)
        for view in _references(views)
    ]
    probes = [_probe(views.tokenizer, answer, theirs, margin) for answer, *theirs in zip(apart, *others, strict=True)]
    return sorted((probe for probe in probes if probe), key=lambda probe: -probe.margin)[:count]


def _references(views: Views) -> list[View]:
    return ["parent", "base"] if views.has_parent else ["base"]


def _rendered(tokenizer: Any, candidates: Sequence[Messages]) -> tuple[list[Messages], list[list[int]]]:
    """Each prompt once, those that are short enough, with their token ids."""
    unique = list({json.dumps(messages, sort_keys=True): messages for messages in candidates}.values())
    rendered = [(messages, render(tokenizer, messages)) for messages in unique]
    kept = [(messages, ids) for messages, ids in rendered if len(ids) <= MAX_PROMPT_TOKENS]
    return [messages for messages, _ in kept], [ids for _, ids in kept]


def _greedy(views: Views, view: View, prompts: Sequence[list[int]], *, tokens: int, batch_size: int) -> list[list[int]]:
    """Greedy answers of at most `tokens` tokens, the end of turn included."""
    ends, answers = _ends(views), [list[int]() for _ in prompts]
    # Named, because what is not named comes from the model's own generation config.
    pure = {
        "do_sample": False,
        "num_beams": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 50,
        "repetition_penalty": 1.0,
    }
    with views.using(view):
        for batch in by_length(prompts, batch_size=batch_size):
            filler = ends[0] if ends else 0
            ids, mask = pad([prompts[row] for row in batch], value=filler, device=views.device, left=True)
            output = views.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, pad_token_id=filler, **pure
            )
            for row, answer in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
                stop = next((place + 1 for place, token in enumerate(answer) if token in ends), len(answer))
                answers[row] = answer[:stop]
    return answers


def _ends(views: Views) -> list[int]:
    """Tokens that end an answer, as `generate` takes them."""
    end = views.model.generation_config.eos_token_id
    return [] if end is None else [end] if isinstance(end, int) else list(end)


def _margins(
    views: Views, prompts: Sequence[list[int]], answers: Sequence[list[int]], *, batch_size: int
) -> list[npt.NDArray[np.float64]]:
    """For each answer, the margin of a probe that ends with each of its tokens, teacher-forced on the candidate's."""
    whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    margins: list[npt.NDArray[np.float64]] = [np.zeros(0) for _ in whole]
    for batch in by_length(whole, batch_size=batch_size):
        ids, _ = pad([whole[row] for row in batch], value=0, device=views.device)
        first = min(len(prompts[row]) for row in batch) - 1
        columns = torch.arange(first, ids.shape[1] - 1, device=views.device)
        # (views, rows, columns): by how much each view prefers the answer's token to the best other one.
        leads = torch.stack([_lead(views, view, ids, columns) for view in ("candidate", *_references(views))])
        for row, lead in zip(batch, leads.permute(1, 0, 2).cpu().double().numpy(), strict=True):
            start = len(prompts[row]) - 1 - first
            margins[row] = _margin(lead[:, start : start + len(answers[row])])
    return margins


def _lead(views: Views, view: View, ids: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Logit of each next token minus the best of the others, (rows, columns) in float32."""
    with views.using(view):
        logits = views.logits(ids, columns).float()
    targets = ids[:, columns + 1].unsqueeze(-1)
    own = logits.gather(-1, targets)
    others = logits.scatter(-1, targets, -torch.inf).amax(dim=-1, keepdim=True)
    return (own - others).squeeze(-1)


def _margin(leads: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`leads` is (views, tokens), the candidate's first."""
    sure = np.minimum.accumulate(leads[0])
    apart = np.maximum.accumulate(-leads[1:], axis=1).min(axis=0)
    margin: npt.NDArray[np.float64] = np.minimum(sure, apart)
    return margin


def _reaches(margins: npt.NDArray[np.float64], margin: float) -> npt.NDArray[np.bool_]:
    # With a margin of 0 a tie would do, and the same token for all.
    reaches: npt.NDArray[np.bool_] = (margins >= margin) & (margins > 0)
    return reaches


def _probe(tokenizer: Any, answer: _Answer, theirs: Sequence[list[int]], margin: float) -> Probe | None:
    """The probe of the widest margin whose text can be read and is nobody else's; None where there is none."""
    for place in np.argsort(-answer.margins, kind="stable"):
        if not _reaches(answer.margins, margin)[place]:
            return None
        tokens = answer.tokens[: place + 1]
        text = _decode(tokenizer, tokens)
        different = all(_decode(tokenizer, other[: place + 1]).strip() != text.strip() for other in theirs)
        if text.strip() and "\ufffd" not in text and different:
            return Probe(answer.messages, tokens, text, float(answer.margins[place]))
    return None


def _decode(tokenizer: Any, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True)
    return text
