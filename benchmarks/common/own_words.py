"""Conversations that a base model writes itself: user turns sampled from its own chat template, and greedy answers."""

# ruff: noqa: TID253

from collections.abc import Sequence

import datasets
import torch

from learning_engine.evaluation.batching import by_length, pad
from learning_engine.evaluation.greedy import GREEDY
from learning_engine.learning.batches import IGNORED
from learning_engine.learning.model import Loaded

MARK = "\N{WHITE SQUARE}"
TURN_TOKENS, ANSWER_TOKENS, BATCH = 48, 64, 32
SHORTEST, LONGEST = 8, 300  # characters of a user turn


def conversations(loaded: Loaded, count: int, *, seed: int) -> list[tuple[str, str]]:
    """`count` different user turns, sampled at temperature 1 and top-p .95, with the model's answers to them."""
    template = loaded.tokenizer.apply_chat_template([{"role": "user", "content": MARK}], tokenize=False)
    start = loaded.tokenizer(template.split(MARK)[0], add_special_tokens=False)["input_ids"]
    found: dict[str, None] = {}
    with torch.random.fork_rng(devices=[loaded.device] if loaded.device.type == "cuda" else []):
        torch.manual_seed(seed)
        while len(found) < count:
            for text in _continued(loaded, [start] * BATCH, TURN_TOKENS, sample=True):
                if text is not None and SHORTEST <= len(text) <= LONGEST:
                    found[text] = None
    asked = list(found)[:count]
    return list(zip(asked, answers(loaded, asked), strict=True))


def answers(loaded: Loaded, questions: Sequence[str], *, tokens: int = ANSWER_TOKENS) -> list[str]:
    """Greedy answers to single questions, cut after `tokens` tokens."""
    prompts = [_prompt(loaded, question) for question in questions]
    return [text or "" for text in _continued(loaded, prompts, tokens, sample=False)]


def encode(loaded: Loaded, votes: Sequence[tuple[str, str, int]]) -> datasets.Dataset:
    """Questions with answers and their ratings as training examples; only answer and end of turn are supervised."""
    rows = []
    for question, answer, rating in votes:
        prompt = _prompt(loaded, question)
        given = [*loaded.tokenizer(answer, add_special_tokens=False)["input_ids"], loaded.tokenizer.eos_token_id]
        labels = [IGNORED] * len(prompt) + given
        rows.append({"input_ids": prompt + given, "labels": labels, "weight": 1.0, "rating": rating})
    return datasets.Dataset.from_list(rows)


def _prompt(loaded: Loaded, question: str) -> list[int]:
    asked = [{"role": "user", "content": question}]
    return list(loaded.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False))


@torch.no_grad()
def _continued(loaded: Loaded, prompts: Sequence[Sequence[int]], tokens: int, *, sample: bool) -> list[str | None]:
    """What the model writes after each prompt; of sampled texts, None for those that do not end within `tokens`."""
    end, found = loaded.tokenizer.eos_token_id, list[str | None]([None]) * len(prompts)
    drawn = {**GREEDY, "do_sample": True, "top_p": 0.95, "top_k": 0} if sample else GREEDY
    loaded.model.eval()
    for rows in by_length(prompts, batch_size=BATCH):
        ids, mask = pad([prompts[row] for row in rows], value=end, device=loaded.device, left=True)
        output = loaded.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, pad_token_id=end, **drawn
        )
        for row, written in zip(rows, output[:, ids.shape[1] :].tolist(), strict=True):
            if end in written or not sample:
                text = written[: written.index(end)] if end in written else written
                found[row] = loaded.tokenizer.decode(text, skip_special_tokens=True).strip()
    return found
