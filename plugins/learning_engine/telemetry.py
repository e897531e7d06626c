"""One JSON event a step and a phase, on the ordinary logger, so that any log shipper reads them.

Never pass a user's text or a secret as a field.
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
    """As `event`, for what somebody should see."""
    logger.warning(json.dumps({"event": name, **fields}, default=str, ensure_ascii=False))


@contextmanager
def step(name: str, /, **fields: Any) -> Iterator[dict[str, Any]]:
    """Log start, end and seconds of a step; what the block puts into the dict it gets is logged at the end."""
    event(f"{name}.start", **fields)
    result: dict[str, Any] = {}
    began = time.monotonic()
    try:
        yield result
    except BaseException as error:  # a time-out of Airflow is no Exception
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
