"""Memory of the device: how much of it this process may take, and what is done where it does not suffice.

Called by the steps before they load a model, and around what needs the most of it. On a CPU there is nothing to bound,
but an allocation that fails is treated alike.
"""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from learning_engine import telemetry
from learning_engine.errors import OutOfMemory

R = TypeVar("R")
GIB = 1024**3


def limit(fraction: float) -> None:
    """Let this process take at most `fraction` of each GPU's memory, so that it can be shared with a model server.

    The bound is that of torch's allocator: the CUDA context, some hundred MiB, comes on top of it.
    """
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def share_bytes(device: torch.device, fraction: float) -> int | None:
    """What `limit` leaves to this process of the memory of `device`; None for a CPU."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * fraction)


def shrinking(attempt: Callable[[int], R], *, batch_size: int, what: str, advice: str) -> R:
    """What `attempt` returns for `batch_size` rows at once, or for half as many each time it runs out of memory.

    Every other error is raised as it is. Raises OutOfMemory, with `advice`, where one row is still too many.
    """
    size = batch_size
    while True:
        try:
            return attempt(size)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            reason = str(error).split(". ")[0]
        # Only here: the error holds the frames, and they hold the tensors that are in the way.
        free()
        if size == 1:
            raise OutOfMemory(
                f"Expected room to {what} with one row at a time, found too little: {reason}; {_left()}. {advice}"
            )
        telemetry.warning("memory.short", what=what, batch_size=size, next_batch_size=size // 2, reason=reason)
        size //= 2


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that a device, or this machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and should_reduce_batch_size(error)
    )


def free() -> None:
    """Give back what nothing refers to any longer."""
    gc.collect()
    clear_device_cache()


def _left() -> str:
    if not torch.cuda.is_available():
        return "no GPU is in use"
    left, total = torch.cuda.mem_get_info()
    return f"{left / GIB:.1f} of the GPU's {total / GIB:.1f} GiB are free"
