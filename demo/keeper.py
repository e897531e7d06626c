"""Keeps one service running: whenever it ends by itself it is started again, as the compose file's `restart:` does.

    python -P demo/keeper.py COMMAND ARGUMENT…

Says so in the service's own log, waits longer each time it did not last, and ends with the service when it is asked to.
Whatever the service started is this process's to end, too: on Linux orphans become its children, whatever title, group
or session they gave themselves. A service that never came up is not started again. Stands alone: beside it in this
directory lie files that are named as other packages are.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]

# A service that has run for so long has come up; it is started again after the first pause, then after twice that.
STEADY_SECONDS = 20.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
ENDS = {signal.SIGTERM, signal.SIGINT}
WATCHED = {*ENDS, signal.SIGCHLD, signal.SIGALRM}
PR_SET_CHILD_SUBREAPER = 36


def keep(command: Sequence[str], *, steady: float = STEADY_SECONDS, pause: float = FIRST_PAUSE) -> int:
    """Until it is asked to end; the exit code of the service."""
    _adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    waits, came_up = pause, False
    while True:
        began = time.monotonic()
        code, asked = _run(command)
        _end_what_is_left()
        lasted = time.monotonic() - began >= steady
        came_up = came_up or lasted
        if asked or not came_up:
            return code
        waits = pause if lasted else min(waits * 2, LONGEST_PAUSE)
        print(f"It ended by itself with exit code {code}: it is started again in {waits:g} s.", flush=True)
        if _asked_to_end_within(waits):
            return 0


def _run(command: Sequence[str]) -> tuple[int, bool]:
    """The service's exit code, and whether it was asked to end."""
    # Safe: there is no other thread.
    child = subprocess.Popen(command, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED))
    asked = False
    while (code := _reap(child.pid)) is None:
        if (number := signal.sigwait(WATCHED)) in ENDS:
            asked = True
            os.kill(child.pid, number)
    return code, asked


def _reap(service: int) -> int | None:
    """Ask how all ended that have; the exit code of the service, where it has."""
    code = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            pid, status = ended
            if pid == service:
                code = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        pass
    return code


def _end_what_is_left() -> None:
    """Such as the workers of a scheduler that was killed: the next one starts its own."""
    while left := psutil.Process().children(recursive=True):
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)


def _asked_to_end_within(seconds: float) -> bool:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while (number := signal.sigwait(WATCHED)) == signal.SIGCHLD:
        pass
    return number in ENDS


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(abs(keep(sys.argv[1:])))
