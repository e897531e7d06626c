"""Watching modules of a model through a forward and a backward pass, while no weight takes a gradient."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from learning_engine.errors import ModelError
from learning_engine.learning import packing


class Watch(ABC):
    """Shows each run of `modules`, named as the keys, to `returned`, which adds up what it sees."""

    def __init__(self, model: Any, modules: Mapping[str, nn.Module]) -> None:
        self._model, self._modules = model, modules
        self._seen: set[str] = set()
        self._packed: tuple[torch.Size, torch.Tensor] | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, gradients reach the modules' outputs and no weight.

        The forward pass raises ModelError where a module runs twice in it: its gradient would then be a sum over both
        runs, which one product per run does not give.
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

    def begin(self, predicting: torch.Tensor) -> None:
        """To be called before each forward pass; `predicting` (n, t) is true where the next token has a label."""
        self._seen.clear()
        kept = packing.kept(self._model, predicting)
        self._packed = None if kept is None else (kept.shape, kept.flatten().nonzero()[:, 0])

    @abstractmethod
    def returned(self, name: str, entered: torch.Tensor, gradient: torch.Tensor) -> None:
        """A module ran on `entered` (n, t, d_in), detached; the gradient at its output, (n, t, d_out), came back."""

    @abstractmethod
    def sums(self) -> dict[str, torch.Tensor]:
        """What is to be summed over the processes of a data-parallel run, in place."""

    @abstractmethod
    def finish(self, *, n_tokens: int, draws: int) -> dict[str, torch.Tensor]:
        """The Fisher information on the CPU, per supervised token of which there were `n_tokens`."""

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def forward(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            if name in self._seen:
                raise ModelError(
                    f"Expected {name} to run once in a forward pass, found a second run: weights are shared"
                )
            self._seen.add(name)
            # In the first layer nothing before the adapter takes a gradient; here the graph begins.
            if not output.requires_grad:
                output.requires_grad_(True)
            entered = inputs[0].detach()
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.returned(name, self._rows(entered), self._rows(gradient))
            )

        return forward

    def tokens(self, states: torch.Tensor) -> torch.Tensor:
        """(n, t, d) as (n · t, d), or without the padding of rows that ran packed as (Σ t, d)."""
        flat = states.flatten(0, 1)
        return flat if self._packed is None else flat.index_select(0, self._packed[1])

    def _rows(self, states: torch.Tensor) -> torch.Tensor:
        return states if self._packed is None else packing.unpacked(states, *self._packed)
