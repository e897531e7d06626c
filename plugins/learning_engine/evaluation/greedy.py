"""Greedy answers, as a server gives them at temperature 0, and their length."""

from collections.abc import Sequence

import torch

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.views import View, Views

# Every option not set here would come from the model's own generation config.
GREEDY = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0}


@torch.no_grad()
def answers(
    views: Views, view: View, prompts: Sequence[Sequence[int]], *, tokens: int, batch_size: int
) -> list[list[int]]:
    """The answer of `view` to each of the rendered `prompts`: at most `tokens` tokens, including the end of turn."""
    stops, found = _stops(views), [list[int]() for _ in prompts]
    with views.using(view):
        for batch in by_length(prompts, batch_size=batch_size):
            filler = stops[0] if stops else 0
            ids, mask = pad([prompts[row] for row in batch], value=filler, device=views.device, left=True)
            output = views.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, pad_token_id=filler, **GREEDY
            )
            for row, answer in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
                length = next((place + 1 for place, token in enumerate(answer) if token in stops), len(answer))
                found[row] = answer[:length]
    return found


def mean_length(answers: Sequence[Sequence[int]]) -> float | None:
    """Mean number of tokens of `answers`, at least 1 because the end of turn counts; None without an answer."""
    return sum(map(len, answers)) / len(answers) if answers else None


def _stops(views: Views) -> list[int]:
    """The tokens at which `generate` ends an answer."""
    stop = views.model.generation_config.eos_token_id
    return [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
