"""Capture module inputs and output gradients in a forward and backward pass, without computing weight gradients."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from learning_engine.errors import ModelError
from learning_engine.learning import packing


class GradientCapture(ABC):
    """Calls `on_gradient` with the input and output gradient of each of `modules`; subclasses accumulate them."""

    def __init__(self, model: Any, modules: Mapping[str, nn.Module]) -> None:
        self._model, self._modules = model, modules
        self._seen: set[str] = set()
        self._packed: tuple[torch.Size, torch.Tensor] | None = None

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Within the block, gradients flow to the modules' outputs and to no weight.

        The forward pass raises ModelError if a module runs twice: its weight gradient would be the sum over both runs,
        and squaring each run's product separately would be wrong.
        """
        required = [(weight, weight.requires_grad) for weight in self._model.parameters()]
        handles = [module.register_forward_hook(self._hook(name)) for name, module in self._modules.items()]
        try:
            for weight, _ in required:
                weight.requires_grad_(False)
            yield
        finally:
            for handle in handles:
                handle.remove()
            for weight, flag in required:
                weight.requires_grad_(flag)

    def begin_batch(self, predicting: torch.Tensor) -> None:
        """Call before each forward pass. `predicting` (n, t) is true where the next token has a label."""
        self._seen.clear()
        kept = packing.tokens_to_pack(self._model, predicting)
        self._packed = None if kept is None else (kept.shape, kept.flatten().nonzero()[:, 0])

    @abstractmethod
    def on_gradient(self, name: str, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        """Accumulate one module's detached `inputs` (n, t, d_in) and the gradient at its output (n, t, d_out)."""

    @abstractmethod
    def sums(self) -> dict[str, torch.Tensor]:
        """The tensors to sum in place over the processes of a data-parallel run."""

    @abstractmethod
    def finish(self, *, n_tokens: int, draws: int) -> dict[str, torch.Tensor]:
        """The Fisher information per supervised token, on the CPU: the sums over `n_tokens` tokens and `draws`."""

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def forward(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            if name in self._seen:
                raise ModelError(
                    f"Expected {name} to run once in a forward pass, found a second run: layers that share weights are "
                    "not supported"
                )
            self._seen.add(name)
            # Nothing before the first adapted layer requires a gradient, so the autograd graph starts here.
            if not output.requires_grad:
                output.requires_grad_(True)
            first = inputs[0].detach()
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.on_gradient(name, self._rows(first), self._rows(gradient))
            )

        return forward

    def tokens(self, states: torch.Tensor) -> torch.Tensor:
        """(n, t, d) as (n · t, d), or as (Σ t, d) without padding if the batch ran packed."""
        flat = states.flatten(0, 1)
        return flat if self._packed is None else flat.index_select(0, self._packed[1])

    def _rows(self, states: torch.Tensor) -> torch.Tensor:
        return states if self._packed is None else packing.unpack(states, *self._packed)
