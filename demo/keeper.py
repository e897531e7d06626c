"""Keep one service running: restart it whenever it exits on its own, like the compose file's `restart:`.

    python -P demo/keeper.py COMMAND ARGUMENT…

Each restart is logged in the service's log. The pause before a restart doubles while the service keeps exiting early;
a service that never came up is not restarted. On a signal to end, the keeper ends the service, everything that the
service started, and itself. On Linux, orphans become its children, even if they changed their title, group or session.
Run it with -P, and import nothing from this directory, where files have the names of installed packages, such as
airflow.py.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]

# A service that has run this long counts as up, and is restarted after the first pause.
STEADY_SECONDS = 20.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
ENDS = {signal.SIGTERM, signal.SIGINT}
WATCHED = {*ENDS, signal.SIGCHLD, signal.SIGALRM}
PR_SET_CHILD_SUBREAPER = 36


def keep(command: Sequence[str], *, steady: float = STEADY_SECONDS, pause: float = FIRST_PAUSE) -> int:
    """Run the service until a signal asks to end; return its exit code."""
    _adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    waits, came_up = pause, False
    while True:
        began = time.monotonic()
        code, asked = _run(command)
        _end_children()
        lasted = time.monotonic() - began >= steady
        came_up = came_up or lasted
        if asked or not came_up:
            return code
        waits = pause if lasted else min(waits * 2, LONGEST_PAUSE)
        print(f"The service exited with code {code}: it is restarted in {waits:g} s.", flush=True)
        if _asked_to_end_within(waits):
            return 0


def _run(command: Sequence[str]) -> tuple[int, bool]:
    """Run the service once; return its exit code, and whether a signal asked it to end."""
    # preexec_fn is safe here: there is no other thread.
    child = subprocess.Popen(command, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED))
    asked = False
    while (code := _reap(child.pid)) is None:
        if (number := signal.sigwait(WATCHED)) in ENDS:
            asked = True
            os.kill(child.pid, number)
    return code, asked


def _reap(service: int) -> int | None:
    """Reap every ended child; return the service's exit code, or None if it is still running."""
    code = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            pid, status = ended
            if pid == service:
                code = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        pass
    return code


def _end_children() -> None:
    """Kill remaining children, such as the workers of a killed scheduler: the next scheduler starts its own."""
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
