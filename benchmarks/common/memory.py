"""The most memory that a run takes on top of what was held before it.

On a GPU as torch's allocator counts it; on a CPU the storages that its operations return, from when they are made to
when they are freed. What an operation takes and frees within itself is in the first and not in the second.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def peak_bytes(run: Callable[[], Any], *, device: str) -> int:
    """Run once and return the peak, in bytes."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - held
    with _Storages() as storages:
        run()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Follows every storage that comes into being."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What an operation is given was there before; its results may be views of it.
        self._known.update(_storages((args, kwargs)))
        found = func(*args, **(kwargs or {}))
        for storage in _storages(found):
            if storage not in self._known:
                self._known.add(storage)
                self.held += storage.nbytes()
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return found

    def _freed(self, size: int) -> None:
        self.held -= size


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]
