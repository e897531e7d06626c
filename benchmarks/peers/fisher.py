"""Fisher information of an adapter as other code computes it, from `model` and rows.

`one_by_one` (`factors` for Kronecker factors) is the definition and the reference for all others: one backward pass per
sequence of its summed loss, squared, divided by the number of supervised tokens. The others follow common
implementations, in their units. `batched` squares the gradient of a batch's loss, the mean over its sequences of their
summed losses (Avalanche, PyCIL); `outputs_loss` that of transformers' `outputs.loss`, a mean over the batch's tokens;
`mammoth` that of each sequence's mean loss, weighted by the mean probability of its labels (`ewc_on` of Mammoth, with a
token as its example).
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from learning_engine.learning.batches import Row, collate
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
    """Kronecker factors by their definition (see learning.kronecker), from the full gradient of each sequence."""
    total: Tensors = {}
    with recorded_activations(model) as seen:
        for row in rows:
            loss = token_losses(model, [row]).sum()
            for name, gradient in weight_gradients(loss, seen).items():
                total[f"{name}.G"] = total.get(f"{name}.G", 0) + gradient @ gradient.T
                total[f"{name}.C"] = total.get(f"{name}.C", 0) + gradient.T @ gradient
    tokens = sum(row.supervised for row in rows)
    return {name: tensor / (tokens if name.endswith(".G") else tensor.trace()) for name, tensor in total.items()}


def token_losses(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """−log p of each supervised token of a batch."""
    batch = collate(rows)
    device = next(model.parameters()).device
    logits, tokens, _ = supervised_logits(model, batch["input_ids"].to(device), batch["labels"].to(device))
    return functional.cross_entropy(logits, tokens, reduction="none")


def chunks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@contextlib.contextmanager
def recorded_activations(model: Any) -> Iterator[Seen]:
    """Input and output of each adapted layer in the latest forward pass."""
    seen: Seen = {}
    handles = [
        module.register_forward_hook(lambda _, given, out, name=name: seen.__setitem__(name, (given[0], out)))
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def weight_gradients(loss: torch.Tensor, seen: Seen, *, keep: bool = False) -> Tensors:
    """Γ = Σ_t δ_t x_tᵀ of each layer for the recorded sequence: the gradient with respect to its weight change."""
    gradients = torch.autograd.grad(loss, [output for _, output in seen.values()], retain_graph=keep)
    pairs = zip(seen.items(), gradients, strict=True)
    return {name: gradient[0].T @ entered[0].detach() for (name, (entered, _)), gradient in pairs}


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


def _scaled(squares: Tensors, factor: float) -> Tensors:
    return {name: square * factor for name, square in squares.items()}
