"""Supervised processes: each has its own session, log and health check, and is verified to have ended.

`stack.json` has the id and start time of every process. With it, `make down` or the next start after a crash ends what
is left of a stack, and never another process with a reused id. Every process also has the stack's mark in its
environment, which finds processes that left their session or were started just before a crash.
"""

import json
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from demo import process_tree

LOG_LINES = 25
POLL_SECONDS = 0.1


class StackError(Exception):
    """A process of the stack did not start, ended early, or could not be ended."""


@dataclass(frozen=True)
class Program:
    """A program to run. `healthy` may raise or return False until it serves, for at most `patience` seconds. With
    `port`, the program itself must listen there, since another process may have taken the port and answer instead.

    After `stop_signal` it has `grace` seconds to end. A `foundation` is stopped after all others.
    """

    name: str
    command: tuple[str, ...]
    healthy: Callable[[], bool] | None = None
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    user: int | None = None
    patience: float = 90.0
    foundation: bool = False
    stop_signal: int = signal.SIGTERM
    grace: float = 20.0


@dataclass(frozen=True)
class Running:
    """A started process that leads its own session and group. `created` is its start time in seconds."""

    name: str
    pid: int
    created: float
    log: str
    foundation: bool
    stop_signal: int
    grace: float

    def leader(self) -> psutil.Process | None:
        """The process itself; None if it has ended or its id was reused."""
        return process_tree.find(self.pid, self.created)

    def tree(self) -> list[psutil.Process]:
        return process_tree.tree(self.pid, self.created)


class Stack:
    """The processes of one directory, which holds `stack.json` and `logs/`. Threads may start programs concurrently."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.state = self.directory / "stack.json"
        self.logs = self.directory / "logs"
        self._lock = threading.RLock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._serving: list[Running] = []
        self._ending = False

    def start(self, program: Program) -> Running:
        """Start the program and return at once; `wait` waits until it serves."""
        with self._lock:
            if self._ending:
                raise StackError(f"{program.name} was not started: the stack is being stopped")
            self.logs.mkdir(parents=True, exist_ok=True)
            log = self.logs / f"{program.name}.log"
            with log.open("wb") as output:
                child = subprocess.Popen(
                    program.command,
                    cwd=program.cwd,
                    env={**program.env, process_tree.MARK: str(self.directory)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=program.user,
                    group=None if program.user is None else pwd.getpwuid(program.user).pw_gid,
                    extra_groups=None if program.user is None else [],
                )
            self._children[child.pid] = child
            created = psutil.Process(child.pid).create_time()
            running = Running(
                program.name,
                child.pid,
                created,
                str(log),
                program.foundation,
                program.stop_signal,
                program.grace,
            )
            self._write([*self.running(), running])
            return running

    def wait(self, program: Program, running: Running) -> None:
        """Wait until it is healthy. Raises StackError with the log's last lines if it ends first or takes too long."""
        deadline = time.monotonic() + program.patience
        while not (_healthy(program) and _listens(program, running)):
            if running.leader() is None:
                raise StackError(f"{program.name} ended at its start. {tail(running.log)}")
            if time.monotonic() > deadline:
                raise StackError(f"{program.name} does not serve after {program.patience:g} s. {tail(running.log)}")
            time.sleep(POLL_SECONDS)
        self._serving.append(running)

    def up(self, program: Program) -> Running:
        running = self.start(program)
        self.wait(program, running)
        return running

    def run(self, program: Program) -> str:
        """Run it to its end and return its output. Raises StackError if it fails or takes too long."""
        return self.finish(program, self.start(program))

    def finish(self, program: Program, running: Running) -> str:
        """Like `run`, for a program that has been started."""
        try:
            code = self._children[running.pid].wait(program.patience)
        except subprocess.TimeoutExpired:
            self._end([running], {})
            raise StackError(f"{program.name} took over {program.patience:g} s. {tail(running.log)}") from None
        finally:
            self._remove(running)
        if code:
            raise StackError(f"{program.name} failed with exit code {code}. {tail(running.log)}")
        return Path(running.log).read_text(errors="replace")

    def check(self) -> None:
        """Raises StackError with the log's last lines if a process that served has ended on its own."""
        for running in self._serving:
            if running.leader() is None:
                raise StackError(f"{running.name} has ended. {tail(running.log)}")

    def running(self) -> list[Running]:
        """The processes in the state file, alive or not; oldest first."""
        try:
            return [Running(**entry) for entry in json.loads(self.state.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError):  # a truncated file, or another version's: the marks still find the processes
            return []

    def stop(self) -> list[str]:
        """Stop everything, foundations last; return the names of what was alive. Can be called repeatedly.

        Raises StackError if a process survives SIGKILL.
        """
        with self._lock:
            self._ending = True
        running = self.running()
        alive = [entry.name for entry in running if entry.leader()]
        foundations = [entry for entry in running if entry.foundation]
        kept = {process.pid for foundation in foundations for process in foundation.tree()}
        others = {pid: process for pid, process in process_tree.marked(self.directory).items() if pid not in kept}
        self._end([entry for entry in running if not entry.foundation], others)
        self._end(foundations, {})
        self._end([], process_tree.marked(self.directory))
        self.state.unlink(missing_ok=True)
        return alive

    def _end(self, entries: list[Running], others: Mapping[int, psutil.Process]) -> None:
        """Signal the leaders, then terminate and finally kill what remains; verify that all have ended."""
        processes = [*others.values(), *(process for entry in entries for process in entry.tree())]
        began = time.monotonic()
        for entry in entries:
            process_tree.signal_all(filter(None, [entry.leader()]), entry.stop_signal)
        for entry in entries:
            self._wait_ended(filter(None, [entry.leader()]), entry.grace - (time.monotonic() - began))
        for number in (signal.SIGTERM, signal.SIGKILL):
            process_tree.signal_all(processes, number)
            if self._wait_ended(processes, 3):
                return
        left = ", ".join(str(process.pid) for process in processes if process_tree.alive(process))
        raise StackError(
            f"Expected every process of the stack to end, found these alive after SIGKILL: {left}. End them manually."
        )

    def _wait_ended(self, processes: Iterable[psutil.Process], seconds: float) -> bool:
        """Wait until none of them is alive; False if that takes too long."""
        deadline, waiting = time.monotonic() + seconds, list(processes)
        while any(process_tree.alive(process) for process in waiting):
            for child in self._children.values():
                child.poll()
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS / 2)
        return True

    def _remove(self, running: Running) -> None:
        with self._lock:
            self._write([other for other in self.running() if other.pid != running.pid])

    def _write(self, entries: list[Running]) -> None:
        temporary = self.state.with_suffix(".part")
        temporary.write_text(json.dumps([asdict(entry) for entry in entries], indent=2))
        temporary.replace(self.state)


def tail(log: str, lines: int = LOG_LINES) -> str:
    """The end of a log, for an error message."""
    text = Path(log).read_text(errors="replace").rstrip().splitlines()[-lines:]
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in text)]) if text else f"{log} is empty."


def _listens(program: Program, running: Running) -> bool:
    return program.port is None or process_tree.listens(running.tree(), program.port)


def _healthy(program: Program) -> bool:
    try:
        return program.healthy is None or program.healthy()
    except Exception:  # noqa: BLE001  any error of a check means "not yet"; wait() limits the time
        return False
