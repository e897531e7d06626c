"""Celery workers, each as on a machine of its own: home, working and temporary directory, spool, log port."""

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

TAKEN = re.compile(
    r"Executing workload in Celery.*?task_id='(?P<task>\w+)'.*?run_id='(?P<run>[^']+)', try_number=(\d+)"
)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Worker:
    """A running Celery worker and the disk of its machine."""

    name: str
    directory: Path
    running: Running

    def took(self, run: str) -> list[tuple[str, int]]:
        """Task and number of each try that this worker began for the run, in order."""
        found = TAKEN.finditer(Path(self.running.log).read_text(errors="replace"))
        return [(match["task"], int(match[3])) for match in found if match["run"] == run]

    def files(self) -> list[Path]:
        """What lies on its temporary disk and in its spool."""
        return [path for name in ("tmp", "spool") for path in (self.directory / name).rglob("*")]

    def freeze(self) -> None:
        """Stop all its processes where they are, those too that they start meanwhile."""
        seen = set[int]()
        while new := [process for process in self.running.tree() if process.pid not in seen]:
            process_tree.signal_all(new, signal.SIGSTOP)
            seen |= {process.pid for process in new}

    def kill(self) -> None:
        """The power of its machine is cut: no process of it does anything any more."""
        self.freeze()
        processes = self.running.tree()
        process_tree.signal_all(processes, signal.SIGKILL)
        until(f"{self.name} to be gone", lambda: not any(process_tree.alive(process) for process in processes), 30)


@dataclass(frozen=True)
class Crew:
    """Hires workers."""

    stack: Stack
    airflow: Airflow
    broker: Broker
    directory: Path

    def hire(self, service: str, name: str) -> Worker:
        """A worker under the command of the compose file's `service`; it is there when it answers a ping."""
        place = self.directory / name
        for part in ("home", "work", "tmp", "spool"):
            (place / part).mkdir(parents=True)
        own = {
            "AIRFLOW_HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "LEARNING_ENGINE__STORE__SPOOL": str(place / "spool"),
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
        placed = replace(program, cwd=place / "work", env={**program.env, **own})
        return Worker(name, place, self.stack.up(placed))

    def inspect(self, name: str) -> Inspect:
        """Celery's questions to one worker; none answers where it is not there."""
        return Celery(broker=self.broker.url).control.inspect(destination=[f"celery@{name}"], timeout=1)
