"""The keeper restarts a service that exits on its own, and ends everything that the service started."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from demo.process_tree import MARK
from demo.processes import Program, Stack
from demo.stack import ROOT

# Writes its id; exits with the code that it finds in the file `end`.
SERVICE = (
    "import os, pathlib, sys, time\n"
    "directory = pathlib.Path(sys.argv[1])\n"
    "with (directory / 'ids').open('a') as ids: print(os.getpid(), file=ids)\n"
    "while not (directory / 'end').exists(): time.sleep(0.02)\n"
    "code = int((directory / 'end').read_text())\n"
    "(directory / 'end').unlink()\n"
    "sys.exit(code)"
)
# Like LocalExecutor's workers, its title overwrites its environment; it also has a group or session of its own.
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


def restarted(code: str, *arguments: object, steady: float = 0) -> Program:
    """A program that the keeper restarts after short pauses; it counts as up after `steady` seconds."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return python(f"from demo import keeper; raise SystemExit(keeper.keep({command}, steady={steady}, pause=0.05))")


def ids(directory: Path) -> list[int]:
    path = directory / "ids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("code", [0, 3])
def test_a_service_that_exits_on_its_own_is_restarted_and_the_restart_logged(stack: Stack, tmp_path: Path, code: int):
    running = stack.start(restarted(SERVICE, tmp_path))
    for times in (1, 2):
        until(lambda times=times: len(ids(tmp_path)) == times)
        (tmp_path / "end").write_text(str(code))
    until(lambda: len(ids(tmp_path)) == 3)
    assert Path(running.log).read_text().count(f"exited with code {code}: it is restarted in 0.05 s") == 2


def test_a_killed_service_is_restarted(stack: Stack, tmp_path: Path):
    stack.start(restarted(SERVICE, tmp_path))
    until(lambda: ids(tmp_path))
    (killed,) = ids(tmp_path)
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(ids(tmp_path)) == 2)
    assert not psutil.pid_exists(killed)
    assert psutil.pid_exists(ids(tmp_path)[1])


def test_a_service_is_not_restarted_after_a_signal_to_end(stack: Stack, tmp_path: Path):
    running = stack.start(restarted(SERVICE, tmp_path))
    until(lambda: ids(tmp_path))
    assert stack.stop() == ["service"]
    assert not psutil.pid_exists(ids(tmp_path)[0])
    assert running.leader() is None
    assert len(ids(tmp_path)) == 1


def test_a_service_that_never_came_up_is_not_restarted(stack: Stack, tmp_path: Path):
    (tmp_path / "end").write_text("3")
    running = stack.start(restarted(SERVICE, tmp_path, steady=60))
    until(lambda: running.leader() is None)
    assert len(ids(tmp_path)) == 1


def start_with_worker(stack: Stack, program: Program, directory: Path) -> tuple[psutil.Process, psutil.Process]:
    """Start a scheduler; returns it and its worker, whose environment no longer has the stack's mark."""
    stack.start(program)
    written = directory / "worker"
    until(lambda: written.exists() and written.read_text())
    worker = psutil.Process(int(written.read_text()))
    assert worker.environ().get(MARK) is None
    return worker.parent(), worker


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_workers_of_a_killed_scheduler_end_with_the_stack(stack: Stack, tmp_path: Path):
    scheduler, worker = start_with_worker(stack, python(SCHEDULER, tmp_path, WORKER, "setpgrp"), tmp_path)
    scheduler.kill()
    until(lambda: has_ended(scheduler))
    Stack(stack.directory).stop()
    assert has_ended(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
@pytest.mark.parametrize("leaves", ["setpgrp", "setsid"])
def test_the_workers_of_a_killed_scheduler_end_before_its_restart(stack: Stack, tmp_path: Path, leaves: str):
    scheduler, worker = start_with_worker(stack, restarted(SCHEDULER, tmp_path, WORKER, leaves), tmp_path)
    (tmp_path / "worker").unlink()
    scheduler.kill()
    until(lambda: (tmp_path / "worker").exists())
    assert has_ended(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_a_worker_with_another_title_and_session_ends_with_the_stack(stack: Stack, tmp_path: Path):
    _, worker = start_with_worker(stack, restarted(SCHEDULER, tmp_path, WORKER, "setsid"), tmp_path)
    stack.stop()
    assert has_ended(worker)
