"""Classify by likelihood: of the possible answers, choose the one that the model gives with the highest probability.

One forward pass scores all answers to a prompt. They follow the prompt one after the other; each answer's positions
continue those of the prompt, and each of its tokens attends to the prompt and to the tokens before it in its answer.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from learning_engine.learning.model import Loaded
from sequential.tasks import Questions

BATCH = {"cpu": 8, "cuda": 64}


def accuracy(loaded: Loaded, questions: Questions) -> float:
    """The share of questions whose right answer is the likeliest."""
    order = sorted(range(len(questions.prompts)), key=lambda place: len(questions.prompts[place]))
    batch_size = BATCH[loaded.device.type]
    right = 0
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        scores = log_likelihoods(loaded, [questions.prompts[place] for place in places], questions.answers)
        right += sum(int(row.argmax()) == questions.right[place] for row, place in zip(scores, places, strict=True))
    return right / len(order)


@torch.no_grad()
def log_likelihoods(loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> torch.Tensor:
    """log p(answer | prompt) in nats, summed over the answer's tokens: (prompts, answers), on the CPU."""
    device = loaded.device
    behind = torch.tensor([token for answer in answers for token in answer])
    # Within the answers: which one a token belongs to, counted from 1, and its place in it.
    owner = torch.tensor([number for number, answer in enumerate(answers, 1) for _ in answer])
    place = torch.tensor([place for answer in answers for place in range(len(answer))])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ids = _padded([torch.cat([torch.tensor(prompt), behind]) for prompt in prompts], 0)
    owners = _padded([torch.cat([torch.zeros(length, dtype=torch.long), owner]) for length in lengths], -1)
    positions = _padded([torch.cat([torch.arange(length), length + place]) for length in lengths], 0)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    seen = causal & ((owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None]))
    # An answer's first token is predicted by the prompt's last token, any other by the one before it.
    predictor = torch.where(place == 0, lengths[:, None] - 1, lengths[:, None] + torch.arange(len(behind)) - 1)
    predictor, rows = predictor.to(device), torch.arange(len(prompts), device=device)[:, None]
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, entered: (entered[0][rows, predictor], *entered[1:]))
    try:
        logits = loaded.model(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=seen[:, None].to(device),
            use_cache=False,
        ).logits
    finally:
        handle.remove()
    chosen = behind.to(device).expand(len(prompts), -1)[..., None]
    by_token = logits.float().log_softmax(-1).gather(-1, chosen).squeeze(-1).cpu()
    return torch.zeros(len(prompts), len(answers)).index_add_(1, owner - 1, by_token)


def _padded(rows: list[torch.Tensor], value: int) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
