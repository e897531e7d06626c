"""Fisher information of an adapter as others compute it, each from `model` and rows.

`one_by_one` (`factors` for the Kronecker structure) is the definition, and what all others are measured by: one
backward pass a sequence of its summed loss, squared, over the number of supervised tokens. The rest is what is found in
the wild, in the units that it comes in. `batched` squares the gradient of a batch, with the mean over its sequences of
their summed losses (Avalanche, PyCIL); `outputs_loss` that of transformers' `outputs.loss`, a mean over the batch's
tokens; `mammoth` that of each sequence's mean loss, weighted by the mean probability of its labels (`ewc_on` of
Mammoth, with a token as its example).
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from learning_engine.learning.batches import IGNORED, Row, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import lora_weights

Tensors = dict[str, torch.Tensor]
Seen = dict[str, tuple[torch.Tensor, torch.Tensor]]


def one_by_one(model: Any, rows: Sequence[Row]) -> Tensors:
    squares = _zeros(model)
    for row in rows:
        losses = token_losses(model, [row])
        _add(squares, _gradients(model, losses.sum()))
    return _scaled(squares, 1 / sum(row.supervised for row in rows))


def batched(model: Any, rows: Sequence[Row], *, batch: int) -> Tensors:
    def loss(chunk: Sequence[Row]) -> torch.Tensor:
        return token_losses(model, chunk).sum() / len(chunk)

    return _mean_square(model, rows, batch, loss)


def outputs_loss(model: Any, rows: Sequence[Row], *, batch: int) -> Tensors:
    def loss(chunk: Sequence[Row]) -> torch.Tensor:
        tensors = collate(chunk)
        device = next(model.parameters()).device
        found: torch.Tensor = model(
            input_ids=tensors["input_ids"].to(device), labels=tensors["labels"].to(device), use_cache=False
        ).loss
        return found

    return _mean_square(model, rows, batch, loss)


def mammoth(model: Any, rows: Sequence[Row]) -> Tensors:
    squares = _zeros(model)
    for row in rows:
        losses = token_losses(model, [row])
        probability = losses.detach().neg().exp().mean()
        _add(squares, _gradients(model, losses.mean()), weight=float(probability))
    return _scaled(squares, 1 / len(rows))


def factors(model: Any, rows: Sequence[Row]) -> Tensors:
    """Kronecker factors by their definition (see learning.kronecker), a sequence at a time, named as ours are."""
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    inputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    for row in rows:
        seen, loss = _watched(model, layers, row)
        last = int((row.labels != IGNORED).nonzero().max())
        gradients = torch.autograd.grad(loss, [output for _, output in seen.values()])
        for (name, (given, _)), gradient in zip(seen.items(), gradients, strict=True):
            inputs[name].append(given[0, :last].detach())
            outputs[name].append(gradient[0, :last])
    tokens = sum(row.supervised for row in rows)
    found = {f"{name}.G": _gram(outputs[name]) / tokens for name in layers}
    # q, k and v have one input; o has its own.
    for first, shared in (("q_proj", "k_proj+q_proj+v_proj"), ("o_proj", "o_proj")):
        for name in layers:
            if name.endswith(first):
                key = name.removesuffix(first) + shared + ".C"
                found[key] = _gram(inputs[name]) / sum(len(vectors) for vectors in inputs[name])
    return found


def token_losses(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """−log p of each supervised token of a batch."""
    batch = collate(rows)
    device = next(model.parameters()).device
    logits, tokens, _ = supervised_logits(model, batch["input_ids"].to(device), batch["labels"].to(device))
    return functional.cross_entropy(logits, tokens, reduction="none")


def chunks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _watched(model: Any, layers: dict[str, Any], row: Row) -> tuple[Seen, torch.Tensor]:
    """Input and output of each layer on the way to the summed loss of one sequence, and that loss."""
    seen: Seen = {}
    handles = [
        module.register_forward_hook(lambda _, given, out, name=name: seen.__setitem__(name, (given[0], out)))
        for name, module in layers.items()
    ]
    loss = token_losses(model, [row]).sum()
    for handle in handles:
        handle.remove()
    return seen, loss


def _mean_square(model: Any, rows: Sequence[Row], batch: int, loss: Callable[[Sequence[Row]], torch.Tensor]) -> Tensors:
    squares = _zeros(model)
    batches = list(chunks(rows, batch))
    for chunk in batches:
        _add(squares, _gradients(model, loss(chunk)))
    return _scaled(squares, 1 / len(batches))


def _gradients(model: Any, loss: torch.Tensor) -> Tensors:
    weights = lora_weights(model)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def _zeros(model: Any) -> Tensors:
    return {name: torch.zeros_like(weight) for name, weight in lora_weights(model).items()}


def _add(squares: Tensors, gradients: Tensors, weight: float = 1.0) -> None:
    for name, gradient in gradients.items():
        squares[name].add_(gradient.square(), alpha=weight)


def _gram(vectors: list[torch.Tensor]) -> torch.Tensor:
    stacked = torch.cat(vectors)
    return (stacked.T @ stacked)[None]


def _scaled(squares: Tensors, factor: float) -> Tensors:
    return {name: square * factor for name, square in squares.items()}
