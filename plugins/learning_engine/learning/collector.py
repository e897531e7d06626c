"""Gradients per sequence of every LoRA factor, from one backward pass over a batch.

With u = A x, y = W₀x + s·B u and δ = ∂(Σ_n ℓ_n)/∂y, the gradients of sequence n are sums over its tokens t alone:
  G_B = Σ_t (s δ_t) u_tᵀ      s δ is the gradient at lora_B's output, u its input
  G_A = Σ_t (s Bᵀδ_t) x_tᵀ    s Bᵀδ is the gradient at lora_A's output, x its input
Both are one batched product of what a forward hook and a gradient hook see. A padded position adds nothing, for no
loss depends on it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from learning_engine.errors import ModelError

# Takes the name of a LoRA factor and its gradients per sequence, (sequences, *shape of the factor).
Take = Callable[[str, torch.Tensor], None]


@contextlib.contextmanager
def per_sequence_gradients(model: Any, take: Take) -> Iterator[Callable[[], None]]:
    """Within the block each backward pass calls `take` once a factor. Yields what is to be called before each forward.

    The weights themselves take no gradient meanwhile. Raises ModelError from the forward pass where a factor runs
    twice in it: its gradient would then be a sum over both runs, which one product per run does not give.
    """
    seen: set[str] = set()
    factors = _factors(model)
    required = [(weight, weight.requires_grad) for weight in model.parameters()]
    handles = [module.register_forward_hook(_hook(name, seen, take)) for name, module in factors.items()]
    try:
        for weight, _ in required:
            weight.requires_grad_(False)
        yield seen.clear
    finally:
        for handle in handles:
            handle.remove()
        for weight, flag in required:
            weight.requires_grad_(flag)


def _factors(model: Any) -> dict[str, nn.Module]:
    """The linear maps A and B of the active adapter under the names of their weights in the adapter's file."""
    ending = f".{model.active_adapter}"
    return {
        f"{name.removesuffix(ending)}.weight": module
        for name, module in model.named_modules()
        if name.endswith((f".lora_A{ending}", f".lora_B{ending}"))
    }


def _hook(name: str, seen: set[str], take: Take) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
    def forward(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if name in seen:
            raise ModelError(f"Expected {name} to run once in a forward pass, found a second run: weights are shared")
        seen.add(name)
        entered = inputs[0].detach()
        # In the first layer nothing before the adapter takes a gradient; here the graph begins.
        if not output.requires_grad:
            output.requires_grad_(True)
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: take(name, gradient.transpose(1, 2) @ entered)
        )

    return forward
