"""The exact Fisher information of an adapter, by enumerating all labels of a small vocabulary.

F = E_y[s sᵀ] / T with s = ∂ log p(y | x)/∂θ over all continuations y of T tokens. A token's score has mean zero given
the tokens before it, so F also equals Σ_t E[s_t s_tᵀ] / T with the score s_t of token t. This module computes that sum,
prefix by prefix, with plain autograd on the model's full logits, and shares no code with the implementation under test.
The same holds for gradients of the weight change, and therefore for the partial traces that form the Kronecker factors.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from learning_engine.learning.batches import IGNORED, Row
from learning_engine.learning.model import lora_weights
from peers.fisher import recorded_activations, weight_gradients

Tensors = dict[str, torch.Tensor]
# p and a differentiable log p of one token.
Scores = Iterable[tuple[float, torch.Tensor]]


def continuations(model: Any, prompt: Sequence[int], length: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every continuation of `length` tokens with its probability."""
    for tokens in itertools.product(range(model.config.vocab_size), repeat=length):
        with torch.no_grad():
            scores = _logits(model, [*prompt, *tokens])[len(prompt) - 1 : -1].log_softmax(-1)
        yield tokens, float(scores[range(length), list(tokens)].sum().exp())


def of_continuations(model: Any, prompt: Sequence[int], length: int) -> Scores:
    """Each token of each continuation, with the probability of its prefix in p."""
    for before in range(length):
        for prefix, likelihood in continuations(model, prompt, before):
            for score in _logits(model, [*prompt, *prefix])[-1].log_softmax(-1):
                yield likelihood * float(score.detach().exp()), score


def of_labels(model: Any, rows: Iterable[Row]) -> Scores:
    """Each label that a supervised token of `rows` could have: the expectation of labels sampled at these inputs."""
    for row in rows:
        logits = _logits(model, row.input_ids.tolist())[:-1][row.labels[1:] != IGNORED]
        for score in logits.log_softmax(-1).flatten():
            yield float(score.detach().exp()), score


def diagonal(model: Any, scores: Scores, *, tokens: int) -> Tensors:
    """The diagonal of F of the LoRA factors, divided by `tokens`."""
    weights = lora_weights(model)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for probability, score in scores:
        found = torch.autograd.grad(score, list(weights.values()), retain_graph=True)
        for name, gradient in zip(weights, found, strict=True):
            total[name] += probability / tokens * gradient.square()
    return total


def partial_traces(model: Any, scores: Scores, *, tokens: int) -> Tensors:
    """Both partial traces of each adapted layer's F, divided by `tokens`: `<layer>.G`, and `<layer>.C` unnormalised."""
    total: Tensors = {}
    with recorded_activations(model) as seen:
        for probability, score in scores:
            for name, gradient in weight_gradients(score, seen, keep=True).items():
                share = probability / tokens
                total[f"{name}.G"] = total.get(f"{name}.G", 0) + share * (gradient @ gradient.T)
                total[f"{name}.C"] = total.get(f"{name}.C", 0) + share * (gradient.T @ gradient)
    return total


def _logits(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits
