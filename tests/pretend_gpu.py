"""A GPU for machines without one: tensors that claim to be on another device and compute on the CPU.

As on a GPU, an operation on tensors of two devices raises RuntimeError, unless it copies, indexes, or one of them is a
number. The device is `meta`, because autograd knows it in every build of torch.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import accelerate
import torch
import transformers
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from learning_engine.learning import trainer
from learning_engine.learning.arguments import arguments_of
from learning_engine.learning.model import Loaded

DEVICE = torch.device("meta")
MAY_MIX = ("aten::_to_copy", "aten::copy_")


class OnDevice(torch.Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """torch.save writes the values, torch.load puts them on the CPU."""
        return self.held.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, tensors = op._schema.name, [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    indexes = name.startswith("aten::index") and isinstance(args[0], OnDevice)
    devices = {isinstance(tensor, OnDevice) for tensor in tensors if tensor.dim()}
    if len(devices) > 1 and name not in MAY_MIX and not indexes:
        raise RuntimeError(f"Expected all tensors of {name} on one device, found two")
    found = op(*tree_map(_real, args), **tree_map(_real, kwargs))
    if name.endswith("_") and not name.endswith("__"):
        return args[0]
    asked = kwargs.get("device")
    moved = asked == DEVICE if asked is not None else any(isinstance(tensor, OnDevice) for tensor in tensors)
    return tree_map(lambda leaf: OnDevice(leaf) if moved and isinstance(leaf, torch.Tensor) else leaf, found)


def _real(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnDevice) else torch.device("cpu") if isinstance(leaf, torch.device) else leaf


class _Creating(TorchDispatchMode):
    """New tensors may be on the pretended device."""

    def __torch_dispatch__(self, op: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


class _FromValues(TorchFunctionMode):
    """torch.tensor bypasses the mode above."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if function is torch.tensor and named.get("device") == DEVICE:
            del named["device"]
            return function(*args, **named).to(DEVICE)
        return function(*args, **named)


@contextlib.contextmanager
def moved(loaded: Loaded) -> Iterator[Loaded]:
    """`loaded` on the pretended device, which exists within the block; Trainers use it there."""
    with contextlib.ExitStack() as stack:
        for owner in (transformers.TrainingArguments, accelerate.Accelerator):
            stack.enter_context(mock.patch.object(owner, "device", DEVICE))
        # Neither autocast nor fused optimizers know the device.
        stack.enter_context(mock.patch.object(torch, "autocast", return_value=contextlib.nullcontext()))
        stack.enter_context(mock.patch.object(trainer, "arguments_of", _not_fused))
        stack.enter_context(_Creating())
        stack.enter_context(_FromValues())
        loaded.model.to(DEVICE)
        yield replace(loaded, device=DEVICE)


def _not_fused(*args: Any, **named: Any) -> transformers.TrainingArguments:
    found = arguments_of(*args, **named)
    found.optim = "adamw_torch"
    return found
