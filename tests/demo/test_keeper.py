"""What keeps a service running: it starts it again where it ended by itself, and ends it with all that it started."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from demo.kin import MARK
from demo.processes import Program, Stack
from demo.stack import ROOT

# Writes its id; ends with the code that it finds in the file `end`.
SERVICE = (
    "import os, pathlib, sys, time\n"
    "there = pathlib.Path(sys.argv[1])\n"
    "with (there / 'ids').open('a') as ids: print(os.getpid(), file=ids)\n"
    "while not (there / 'end').exists(): time.sleep(0.02)\n"
    "code = int((there / 'end').read_text())\n"
    "(there / 'end').unlink()\n"
    "sys.exit(code)"
)
# As LocalExecutor's workers do: a title over the environment; and worse, in a group or a session of its own.
WORKER = (
    "import os, pathlib, sys, time; from setproctitle import setproctitle\n"
    "getattr(os, sys.argv[2])()\n"
    "setproctitle('airflow worker -- LocalExecutor: <idle>' + ' ' * 100_000)\n"
    "(pathlib.Path(sys.argv[1]) / 'worker').write_text(str(os.getpid()))\n"
    "time.sleep(600)"
)
# A scheduler that starts such a worker.
SCHEDULER = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', sys.argv[2], *sys.argv[1::2]])\n"
    "time.sleep(600)"
)


def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def stack(tmp_path: Path):
    stack = Stack(tmp_path / "stack")
    yield stack
    stack.stop()


def python(code: str, *arguments: object, **options: object) -> Program:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return Program("service", (sys.executable, "-c", code, *map(str, arguments)), env=environment, **options)


def kept(code: str, *arguments: object, steady: float = 0) -> Program:
    """Kept with small pauses; it counts as come up after `steady` seconds."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return python(f"from demo import keeper; raise SystemExit(keeper.keep({command}, steady={steady}, pause=0.05))")


def ids(there: Path) -> list[int]:
    return [int(line) for line in (there / "ids").read_text().split()] if (there / "ids").exists() else []


@pytest.mark.parametrize("code", [0, 3])
def test_what_ends_by_itself_is_started_again_and_the_log_says_so(stack: Stack, tmp_path: Path, code: int):
    running = stack.start(kept(SERVICE, tmp_path))
    for times in (1, 2):
        until(lambda times=times: len(ids(tmp_path)) == times)
        (tmp_path / "end").write_text(str(code))
    until(lambda: len(ids(tmp_path)) == 3)
    assert Path(running.log).read_text().count(f"exit code {code}: it is started again in 0.05 s") == 2


def test_what_was_killed_is_started_again(stack: Stack, tmp_path: Path):
    stack.start(kept(SERVICE, tmp_path))
    until(lambda: ids(tmp_path))
    os.kill(ids(tmp_path)[0], signal.SIGKILL)
    until(lambda: len(ids(tmp_path)) == 2)


def test_it_is_not_started_again_once_it_is_asked_to_end(stack: Stack, tmp_path: Path):
    running = stack.start(kept(SERVICE, tmp_path))
    until(lambda: ids(tmp_path))
    assert stack.stop() == ["service"]
    assert not psutil.pid_exists(ids(tmp_path)[0])
    assert running.leader() is None
    assert len(ids(tmp_path)) == 1


def test_what_never_came_up_is_not_started_again(stack: Stack, tmp_path: Path):
    (tmp_path / "end").write_text("3")
    running = stack.start(kept(SERVICE, tmp_path, steady=60))
    until(lambda: running.leader() is None)
    assert len(ids(tmp_path)) == 1


def worker_of(stack: Stack, program: Program, there: Path) -> tuple[psutil.Process, psutil.Process]:
    """The scheduler and its worker, which does not bear the stack's mark any more."""
    stack.start(program)
    until(lambda: (there / "worker").exists() and (there / "worker").read_text())
    worker = psutil.Process(int((there / "worker").read_text()))
    assert worker.environ().get(MARK) is None
    return worker.parent(), worker


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_workers_of_a_killed_scheduler_end_with_the_stack(stack: Stack, tmp_path: Path):
    scheduler, worker = worker_of(stack, python(SCHEDULER, tmp_path, WORKER, "setpgrp"), tmp_path)
    scheduler.kill()
    until(lambda: gone(scheduler))
    Stack(stack.directory).stop()
    assert gone(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
@pytest.mark.parametrize("leaves", ["setpgrp", "setsid"])
def test_the_workers_of_a_killed_scheduler_end_before_it_is_started_again(stack: Stack, tmp_path: Path, leaves: str):
    scheduler, worker = worker_of(stack, kept(SCHEDULER, tmp_path, WORKER, leaves), tmp_path)
    (tmp_path / "worker").unlink()
    scheduler.kill()
    until(lambda: (tmp_path / "worker").exists())
    assert gone(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_whatever_title_and_session_a_worker_gave_itself_it_ends_with_the_stack(stack: Stack, tmp_path: Path):
    _, worker = worker_of(stack, kept(SCHEDULER, tmp_path, WORKER, "setsid"), tmp_path)
    stack.stop()
    assert gone(worker)
