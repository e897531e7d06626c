"""Celery workers, each with its own directories, spool and log port, as if on separate machines."""

import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from celery import Celery
from celery.app.control import Inspect

from demo import process_tree
from demo.airflow import Airflow
from demo.ports import free_port
from demo.processes import Running, Stack
from tests.integration.celery import production
from tests.integration.celery.broker import Broker
from tests.integration.conftest import until

ATTEMPT = re.compile(
    r"Executing workload in Celery.*?task_id='(?P<task>\w+)'.*?run_id='(?P<run>[^']+)', try_number=(\d+)"
)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Worker:
    """A running Celery worker and its directories."""

    name: str
    directory: Path
    running: Running

    def attempts_of(self, run: str) -> list[tuple[str, int]]:
        """Task and attempt number of each attempt that this worker began for the run, in order."""
        found = ATTEMPT.finditer(Path(self.running.log).read_text(errors="replace"))
        return [(match["task"], int(match[3])) for match in found if match["run"] == run]

    def files(self) -> list[Path]:
        """The content of its temporary directory and its spool."""
        return [path for name in ("tmp", "spool") for path in (self.directory / name).rglob("*")]

    def freeze(self) -> None:
        """Suspend all its processes, including those that they start meanwhile."""
        seen = set[int]()
        while new := [process for process in self.running.tree() if process.pid not in seen]:
            process_tree.signal_all(new, signal.SIGSTOP)
            seen |= {process.pid for process in new}

    def kill(self) -> None:
        """Kill all its processes at once, as if its machine lost power."""
        self.freeze()
        processes = self.running.tree()
        process_tree.signal_all(processes, signal.SIGKILL)
        until(f"{self.name} to end", lambda: not any(process_tree.alive(process) for process in processes), 30)


@dataclass(frozen=True)
class WorkerFactory:
    """Starts workers."""

    stack: Stack
    airflow: Airflow
    broker: Broker
    directory: Path

    def start(self, service: str, name: str) -> Worker:
        """Start a worker with the command of the compose file's `service`, and wait until it answers a ping."""
        home = self.directory / name
        for part in ("home", "work", "tmp", "spool"):
            (home / part).mkdir(parents=True)
        own = {
            "AIRFLOW_HOME": str(home / "home"),
            "TMPDIR": str(home / "tmp"),
            "LEARNING_ENGINE__STORE__SPOOL": str(home / "spool"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }
        program = self.airflow.program(
            name,
            *production.command(service),
            "--celery-hostname",
            name,
            healthy=lambda: bool(self.inspect(name).ping()),
            patience=START_SECONDS,
            grace=10,
        )
        placed = replace(program, cwd=home / "work", env={**program.env, **own})
        return Worker(name, home, self.stack.up(placed))

    def inspect(self, name: str) -> Inspect:
        """Celery's remote inspection of one worker; a dead worker does not answer."""
        return Celery(broker=self.broker.url).control.inspect(destination=[f"celery@{name}"], timeout=1)
