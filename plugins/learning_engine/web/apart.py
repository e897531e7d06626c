"""A window of feedback read in a process of its own. Called by preflight.

What some 100,000 rows take of memory goes back to the system with the process, and while it works through them the
api-server answers others. Such a process is given its question and gives its answer as pickles, by a pipe each.
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


def read_window(resources: Resources, window: Window, path: Path, *, quarantine: Path | None = None) -> "Counts":
    """As `resources.read_window`, whatever that raises included."""
    asked = pickle.dumps((resources.settings, resources.open_feedback(), window, path, quarantine))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, env=environment, check=False)
    if done.returncode:
        raise FeedbackUnavailable(
            f"Expected the process that reads the window to answer, found that it ended with {done.returncode}: "
            "see the api-server's log, and whether the machine is short of memory."
        )
    answer = pickle.loads(done.stdout)  # noqa: S301 - of our own process
    if isinstance(answer, LearningEngineError):
        raise answer
    counts: Counts = answer
    return counts


def _answer(asked: bytes) -> "Counts | LearningEngineError":
    settings, feedback, window, path, quarantine = pickle.loads(asked)  # noqa: S301 - of the process that started us
    resources = Resources(settings, _nothing, lambda: feedback, _nothing)
    try:
        return read_here(resources, window, path, quarantine=quarantine)
    except LearningEngineError as error:
        return error


def _nothing() -> Any:
    raise AssertionError("a window is read from the feedback alone")


def main() -> None:
    # What a library prints goes to the log.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        answers.write(pickle.dumps(_answer(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
