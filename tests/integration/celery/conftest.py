"""The production stack as processes: CeleryExecutor on Redis, a worker for default and deploy queues, one for GPUs."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from demo import postgres
from demo.ports import free_port
from demo.processes import Stack
from tests.integration import assembly
from tests.integration.celery import production
from tests.integration.celery.broker import Broker
from tests.integration.celery.crew import Crew, Worker
from tests.integration.celery.front import Front
from tests.integration.conftest import SETTINGS, WEEKS, Live, rows_of, until

CHECKPOINT_STEPS = 20
OWN = {
    "DAG__TRAIN_QUEUE": production.QUEUE,
    "DAG__TRAIN_POOL": production.POOL,
    "DAG__DEPLOY_QUEUE": production.compose()["x-airflow"]["environment"]["LEARNING_ENGINE__DAG__DEPLOY_QUEUE"],
    "TRAINING__CHECKPOINT_STEPS": str(CHECKPOINT_STEPS),
}
WEEKLY = "learning_engine_weekly"


@dataclass
class Plant:
    """The running stack. A worker that was killed is replaced, under another name, by whoever killed it."""

    live: Live
    crew: Crew
    front: Front
    worker: Worker
    gpu: Worker
    hired: int = 1

    def replace_gpu(self) -> Worker:
        self.hired += 1
        self.gpu = self.crew.hire("gpu-worker", f"gpu-{self.hired}")
        return self.gpu

    def replace_worker(self) -> Worker:
        self.hired += 1
        self.worker = self.crew.hire("worker", f"worker-{self.hired}")
        return self.worker

    def log(self, run: str, task: str, number: int = 1, dag_id: str = WEEKLY) -> str:
        """What a try has logged so far; empty before it began."""
        folder = self.live.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run}" / f"task_id={task}"
        path = folder / f"attempt={number}.log"
        return path.read_text() if path.exists() else ""

    def begun(self, run: str, task: str, event: str, dag_id: str = WEEKLY) -> None:
        """Wait until the first try has logged `event`; fails where the run ends without it."""

        def logged() -> bool:
            assert self.live.state(run, dag_id) not in {"success", "failed"}, self.live.explain(run, dag_id)
            return event in self.log(run, task, dag_id=dag_id)

        until(f"{event} of {run}", logged, pause=0.1)


def dag_runs(live: Live, dag_id: str = WEEKLY) -> list[str]:
    """The ids of the DAG's runs."""
    return [str(run["dag_run_id"]) for run in live.rest.call("GET", f"dags/{dag_id}/dagRuns")["dag_runs"]]


def absent(what: str) -> None:
    """Skip, or fail in CI: there `make test-real` has installed it."""
    (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(f"{what}: see `make test-real`")


@pytest.fixture(scope="package")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    server = shutil.which("redis-server") or absent("redis-server is missing")
    directory = tmp_path_factory.mktemp("plant")
    stack, fronts = Stack(directory), list[Front]()
    broker = Broker(str(server), directory / "redis", free_port())

    def front(port: int) -> int:
        fronts.append(Front(port))
        return fronts[0].server_port

    try:
        stack.up(broker.program())
        executor = partial(production.options, broker)
        live = Live(
            stack, *assembly.start(stack, directory, settings={**SETTINGS, **OWN}, executor=executor, front=front)
        )
        crew = Crew(stack, live.airflow, broker, directory)
        with ThreadPoolExecutor() as pool:
            worker, gpu = pool.submit(crew.hire, "worker", "worker-1"), pool.submit(crew.hire, "gpu-worker", "gpu-1")
        yield Plant(live, crew, fronts[0], worker.result(), gpu.result())
    finally:
        stack.stop()
        for one in fronts:
            one.shutdown()
            one.server_close()
        postgres.remove(directory / "postgres")


@dataclass(frozen=True)
class FirstWeek:
    """The run that the scheduler itself started over the last complete week, and the workers that were there."""

    run: str
    worker: Worker
    gpu: Worker


@pytest.fixture(scope="package")
def first_week(plant: Plant) -> FirstWeek:
    live = plant.live
    live.add_feedback(rows_of(WEEKS - 1))
    live.rest.unpause(WEEKLY)
    (run,) = until("the scheduled run", lambda: dag_runs(live), 60)
    assert live.ended(run) == "success", live.explain(run)
    return FirstWeek(run, plant.worker, plant.gpu)
