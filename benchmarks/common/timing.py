"""Time several contestants in one run, so that other load on the machine affects all of them alike.

Each round runs every contestant once, starting with a different one. Results are compared as the ratio to the baseline
of the same round, and its median over the rounds. A warm-up round is not counted. Python's garbage collector runs
before each contestant, not during it.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def rounds(
    contestants: Mapping[str, Callable[[], Any]], *, repetitions: int, device: str, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `repetitions` rounds."""
    if warm:
        for contestant in contestants.values():
            contestant()
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(once(contestants[name], device=device))
    return seconds


def once(contestant: Callable[[], Any], *, device: str) -> float:
    """Seconds of one run, including work still queued on the device."""
    gc.collect()
    gc.disable()
    try:
        _finish(device)
        began = time.perf_counter()
        contestant()
        _finish(device)
        return time.perf_counter() - began
    finally:
        gc.enable()


def ratio(seconds: Mapping[str, list[float]], name: str, baseline: str) -> float:
    """Median over the rounds of `name` ÷ `baseline`."""
    return statistics.median(mine / base for mine, base in zip(seconds[name], seconds[baseline], strict=True))


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
