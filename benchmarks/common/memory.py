"""Measure by how much a run's peak memory exceeds the memory held before it.

On a GPU, torch's allocator counts it. On a CPU, this counts the storages that operations return, from creation to
release. Memory that an operation allocates and frees internally is counted on a GPU only.
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
    with _StorageTracker() as storages:
        run()
    return storages.peak


class _StorageTracker(TorchDispatchMode):
    """Tracks every storage that operations create."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # An operation's arguments existed before; its results may be views of them.
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
