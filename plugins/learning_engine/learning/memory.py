"""Device memory: limit how much this process may use, and retry with smaller batches when it runs out.

The steps call this before they load a model and around their largest computations. On a CPU there is no limit to set,
but a failed allocation is handled the same way.
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
    """Limit this process to `fraction` of each GPU's memory, so that a model server can share the GPU.

    The limit applies to torch's allocator; the CUDA context, a few hundred MiB, comes on top.
    """
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def share_bytes(device: torch.device, fraction: float) -> int | None:
    """Bytes of the memory of `device` that `limit` allows this process; None for a CPU."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * fraction)


def retry_with_smaller_batches(attempt: Callable[[int], R], *, batch_size: int, what: str, advice: str) -> R:
    """Call `attempt` with `batch_size` rows at once, and with half as many each time it runs out of memory.

    Other errors are raised unchanged. Raises OutOfMemory with `advice` if a single row does not fit.
    """
    size = batch_size
    while True:
        try:
            return attempt(size)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            reason = str(error).split(". ")[0]
        # Not inside the except block: the error references the frames whose tensors occupy the memory.
        free()
        if size == 1:
            raise OutOfMemory(
                f"Expected enough memory to {what} with one row at a time, found too little: {reason}; "
                f"{_free_memory()}. {advice}"
            )
        telemetry.warning("memory.short", what=what, batch_size=size, next_batch_size=size // 2, reason=reason)
        size //= 2


def ran_out(error: BaseException) -> bool:
    """Whether `error` means that a device, or this machine, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and should_reduce_batch_size(error)
    )


def free() -> None:
    """Release memory that is no longer referenced."""
    gc.collect()
    clear_device_cache()


def _free_memory() -> str:
    if not torch.cuda.is_available():
        return "no GPU is in use"
    left, total = torch.cuda.mem_get_info()
    return f"{left / GIB:.1f} of the GPU's {total / GIB:.1f} GiB are free"
