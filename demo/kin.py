"""Which operating system processes belong to a stack: by their parent, their session, or the mark they carry."""

import os
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MARK = "LEARNING_ENGINE_DEMO_STACK"


def same(pid: int, created: float) -> psutil.Process | None:
    """The live process `pid` created at `created`, in seconds; None where its id belongs to another one now."""
    try:
        process = psutil.Process(pid)
        return process if process.create_time() == created and alive(process) else None
    except psutil.NoSuchProcess:
        return None


def family(pid: int, created: float) -> list[psutil.Process]:
    """The process, its descendants, and what is left of the session that it led.

    A process can leave its group and write over its environment, but its session only for a new one of its own. The
    system gives an id to nobody else while a session has it.
    """
    if _strangers(pid, created):
        return []
    leader = same(pid, created)
    found = [] if leader is None else [leader, *leader.children(recursive=True)]
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.create_time() >= created:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def _strangers(pid: int, created: float) -> bool:
    """Whether the id belongs to a later process, and with it the session."""
    try:
        later: bool = psutil.Process(pid).create_time() != created
    except psutil.NoSuchProcess:
        return False
    return later


def marked(directory: Path) -> dict[int, psutil.Process]:
    """Every process that was started for the stack of `directory`, by its environment; never this one."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(directory):
                found[process.pid] = process
        except (psutil.Error, OSError):  # gone, or somebody else's
            continue
    return found


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Whether one of them accepts TCP connections at `port`."""
    for process in processes:
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets):
            return True
    return False


def alive(process: psutil.Process) -> bool:
    """Running, and not merely waiting for its parent to ask how it ended."""
    try:
        running: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return running


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to each that is still there."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
