"""What a training tells of itself while it runs, as one small object in the bucket. Called by `staging`.

A thread writes it, one update at a time: a store that is slow or fails costs updates, never steps.
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
# How long the end of a training waits for its last update.
PATIENCE_SECONDS = 5.0
Point = tuple[int, float, float]


class Reporter:
    """Keeps runs/<run key>/progress.json, a TrainingProgress, while it is entered; the last update comes at the exit.

    `curve` has the points (step, task loss, EWC loss) that an earlier try has left in the checkpoint it goes on from.
    """

    def __init__(self, store: Store, run_key: str, curve: Iterable[Point]) -> None:
        self._store, self._run_key, self._curve = store, run_key, list(curve)
        self._unwritten: dict[str, Any] | None = None
        self._writer: threading.Thread | None = None
        self._began = float("-inf")

    def tell(self, fields: dict[str, Any]) -> None:
        """`fields` are those of `trainer.train`'s `on_log`. Never waits for the store."""
        telemetry.event("train.progress", run_key=self._run_key, **fields)
        # A training that ran out of memory goes back to its last checkpoint.
        while self._curve and self._curve[-1][0] >= fields["step"]:
            self._curve.pop()
        self._curve.append((fields["step"], fields["task_loss"], fields["ewc_loss"]))
        self._unwritten = {**fields, "updated_at": datetime.now(UTC)}
        if not self._writing() and time.monotonic() - self._began >= INTERVAL_SECONDS:
            self._write(self._unwritten)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
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
        # A daemon, so that a store which never answers does not keep the worker's process.
        self._writer = threading.Thread(target=self._put, args=(update,), name="progress", daemon=True)
        self._writer.start()

    def _put(self, update: TrainingProgress) -> None:
        try:
            self._store.put_json(manifest.run_key(self._run_key, manifest.PROGRESS), update.to_json())
        except StoreError as error:
            telemetry.event("train.progress_lost", step=update.step, error=str(error))
