"""The progress of a running training, as one small object in the bucket.

A thread writes it, one update at a time. A slow or failing store loses updates but never delays training.
"""

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Self

from learning_engine import telemetry
from learning_engine.errors import StoreError
from learning_engine.records.contracts import TrainingProgress
from learning_engine.registry import manifest
from learning_engine.registry.store import Store

INTERVAL_SECONDS = 5.0
# How long the end of a training waits for the last update to be written.
EXIT_TIMEOUT_SECONDS = 5.0
Point = tuple[int, float, float]


class Reporter:
    """Context manager that keeps runs/<run key>/progress.json, a TrainingProgress, up to date; writes it last on exit.

    `curve` has the points (step, task loss, EWC loss) from the checkpoint that this attempt continues from.
    """

    def __init__(self, store: Store, run_key: str, curve: Iterable[Point]) -> None:
        self._store, self._run_key, self._curve = store, run_key, list(curve)
        self._unwritten: dict[str, Any] | None = None
        self._writer: threading.Thread | None = None
        self._began = float("-inf")

    def report(self, fields: dict[str, Any]) -> None:
        """Report the `fields` of `trainer.train`'s `on_log`. Never waits for the store."""
        telemetry.event("train.progress", run_key=self._run_key, **fields)
        # A training that ran out of memory restarts from its last checkpoint, so steps can repeat.
        while self._curve and self._curve[-1][0] >= fields["step"]:
            self._curve.pop()
        self._curve.append((fields["step"], fields["task_loss"], fields["ewc_loss"]))
        self._unwritten = {**fields, "updated_at": datetime.now(UTC)}
        if not self._writing() and time.monotonic() - self._began >= INTERVAL_SECONDS:
            self._write(self._unwritten)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
        self._wait(deadline)
        if self._unwritten and not self._writing():
            self._write(self._unwritten)
            self._wait(deadline)

    def _writing(self) -> bool:
        return self._writer is not None and self._writer.is_alive()

    def _wait(self, deadline: float) -> None:
        if self._writer is not None:
            self._writer.join(max(0.0, deadline - time.monotonic()))

    def _write(self, fields: dict[str, Any]) -> None:
        from learning_engine.learning.training_log import thin

        update = TrainingProgress(**fields, curve=thin(self._curve))
        self._unwritten, self._began = None, time.monotonic()
        # A daemon thread, so that a store that never answers does not keep the worker's process alive.
        self._writer = threading.Thread(target=self._put, args=(update,), name="progress", daemon=True)
        self._writer.start()

    def _put(self, update: TrainingProgress) -> None:
        try:
            self._store.put_json(manifest.run_key(self._run_key, manifest.PROGRESS), update.to_json())
        except StoreError as error:
            telemetry.event("train.progress_lost", step=update.step, error=str(error))
