"""How many questions a model answers right: the greedy answer, word for word."""

from collections.abc import Sequence
from typing import Any

from demo.lessons import Question


def share_right(model: Any, tokenizer: Any, questions: Sequence[Question]) -> float:
    """Share in [0, 1]. The greedy answer is the expected one where each of its tokens is the likeliest next."""
    import torch

    chats = [_encode(tokenizer, question) for question in questions]
    width = max(len(prompt) + len(answer) for prompt, answer in chats)
    ids = torch.full((len(chats), width), tokenizer.pad_token_id)
    expected = torch.full_like(ids, -1)
    for row, (prompt, answer) in enumerate(chats):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        expected[row, len(prompt) : end] = torch.tensor(answer)
    model.eval()
    with torch.no_grad():
        likeliest = model(input_ids=ids).logits[:, :-1].argmax(-1)
    right = ((likeliest == expected[:, 1:]) | (expected[:, 1:] == -1)).all(dim=1)
    return float(right.float().mean())


def _encode(tokenizer: Any, question: Question) -> tuple[list[int], list[int]]:
    asked = [{"role": "user", "content": question.text}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    answer = tokenizer(question.answer, add_special_tokens=False)["input_ids"]
    return prompt, [*answer, tokenizer.eos_token_id]
