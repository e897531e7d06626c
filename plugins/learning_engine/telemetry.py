"""Structured logging: one JSON event per line on the standard logger, readable by any log shipper.

Never pass user text or a secret as a field.
"""

import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("learning_engine")


def event(name: str, /, **fields: Any) -> None:
    """Log one event as one line of JSON."""
    logger.info(json.dumps({"event": name, **fields}, default=str, ensure_ascii=False))


def warning(name: str, /, **fields: Any) -> None:
    """Log one event at level WARNING, for what an operator should see."""
    logger.warning(json.dumps({"event": name, **fields}, default=str, ensure_ascii=False))


@contextmanager
def step(name: str, /, **fields: Any) -> Iterator[dict[str, Any]]:
    """Log the start, end and duration of a step. The fields that the block adds to the yielded dict are logged at the
    end."""
    event(f"{name}.start", **fields)
    result: dict[str, Any] = {}
    began = time.monotonic()
    try:
        yield result
    except BaseException as error:  # Airflow's time-out is not an Exception
        logger.error(
            json.dumps(
                {
                    "event": f"{name}.failed",
                    "seconds": round(time.monotonic() - began, 3),
                    "error": type(error).__name__,
                    "message": str(error),
                    "stack": traceback.format_exc(),
                },
                ensure_ascii=False,
            )
        )
        raise
    event(f"{name}.end", seconds=round(time.monotonic() - began, 3), **result)
