"""Find the operating system processes of a stack: by parent, by session, or by an environment variable."""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MARK = "LEARNING_ENGINE_DEMO_STACK"


def find(pid: int, created: float) -> psutil.Process | None:
    """The live process `pid` created at `created`, in seconds; None if it has ended or its id was reused."""
    try:
        process = psutil.Process(pid)
        return process if process.create_time() == created and alive(process) else None
    except psutil.NoSuchProcess:
        return None


def tree(pid: int, created: float) -> list[psutil.Process]:
    """The process, its descendants, and the remaining processes of the session that it led.

    A process can leave its group and overwrite its environment, but it leaves its session only by creating a new one.
    The system does not reuse an id while a session has it.
    """
    if _reused(pid, created):
        return []
    leader = find(pid, created)
    found = [] if leader is None else [leader, *leader.children(recursive=True)]
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.create_time() >= created:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def _reused(pid: int, created: float) -> bool:
    """Whether the id, and with it the session, belongs to a later process."""
    try:
        later: bool = psutil.Process(pid).create_time() != created
    except psutil.NoSuchProcess:
        return False
    return later


def marked(directory: Path) -> dict[int, psutil.Process]:
    """Every process started for the stack in `directory`, found by its environment; never this process."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(directory):
                found[process.pid] = process
        except (psutil.Error, OSError):  # ended, or another user's
            continue
    return found


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Whether one of the processes accepts TCP connections at `port`."""
    for process in processes:
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets):
            return True
    return False


def alive(process: psutil.Process) -> bool:
    """Whether it is running and not a zombie."""
    try:
        running: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return running


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to each process that still exists."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
