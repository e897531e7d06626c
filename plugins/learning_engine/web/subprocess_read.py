"""Reads a window of feedback in a subprocess. Called by preflight.

The memory of some 100,000 rows returns to the system when the process ends, and the api-server stays responsive
meanwhile. Request and result are pickles on the subprocess's stdin and stdout.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine.errors import FeedbackUnavailable, LearningEngineError
from learning_engine.records.contracts import Window
from learning_engine.steps.resources import Resources
from learning_engine.steps.resources import read_window as read_here

if TYPE_CHECKING:
    from learning_engine.feedback.snapshot import Counts

# What the subprocess needs to start and to write the result.
START_SECONDS = 60


def read_window(resources: Resources, window: Window, path: Path, *, quarantine: Path | None = None) -> "Counts":
    """Like `resources.read_window`, including the package errors that it raises."""
    request = pickle.dumps((resources.settings, resources.open_feedback(), window, path, quarantine))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__]
    # The database's own time-out is `feedback.timeout_seconds`; a file on a disk that hangs has none.
    limit = resources.settings.feedback.timeout_seconds + START_SECONDS
    try:
        done = subprocess.run(
            command, input=request, stdout=subprocess.PIPE, env=environment, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        raise FeedbackUnavailable(
            f"Expected the window to be read within {limit:g} s, found no result: check that the feedback source "
            "responds, or raise feedback.timeout_seconds."
        ) from error
    if done.returncode:
        raise FeedbackUnavailable(
            f"Expected the subprocess that reads the window to answer, found that it ended with {done.returncode}: "
            "see the api-server's log, and check that the machine has enough memory."
        )
    answer = pickle.loads(done.stdout)  # noqa: S301 - from our own subprocess
    if isinstance(answer, LearningEngineError):
        raise answer
    counts: Counts = answer
    return counts


def _read(request: bytes) -> "Counts | LearningEngineError":
    settings, feedback, window, path, quarantine = pickle.loads(request)  # noqa: S301 - from our own parent process
    resources = Resources(settings, _not_available, lambda: feedback, _not_available)
    try:
        return read_here(resources, window, path, quarantine=quarantine)
    except LearningEngineError as error:
        return error


def _not_available() -> Any:
    raise AssertionError("only the feedback source is available here")


def main() -> None:
    # Redirect what libraries print to stderr, so that stdout carries only the result.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        answers.write(pickle.dumps(_read(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
