"""The production stack as processes: CeleryExecutor on Redis, a worker for default and deploy queues, a GPU worker."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from demo import postgres
from demo.ports import free_port
from demo.processes import Stack
from tests.integration import assembly
from tests.integration.celery import production
from tests.integration.celery.broker import Broker
from tests.integration.celery.proxy import Proxy
from tests.integration.celery.workers import Worker, WorkerFactory
from tests.integration.conftest import SETTINGS, WEEKS, Live, rows_of, until
from tests.programs import missing

CHECKPOINT_STEPS = 20
OWN = {
    "DAG__TRAIN_QUEUE": production.QUEUE,
    "DAG__TRAIN_POOL": production.POOL,
    "DAG__DEPLOY_QUEUE": production.compose()["x-airflow"]["environment"]["LEARNING_ENGINE__DAG__DEPLOY_QUEUE"],
    "TRAINING__CHECKPOINT_STEPS": str(CHECKPOINT_STEPS),
}
WEEKLY = "learning_engine_weekly"


@dataclass
class Cluster:
    """The running stack with its two workers. A test that kills a worker replaces it, under another name."""

    live: Live
    workers: WorkerFactory
    proxy: Proxy
    worker: Worker
    gpu: Worker
    workers_started: int = 1

    def replace_gpu(self) -> Worker:
        self.workers_started += 1
        self.gpu = self.workers.start("gpu-worker", f"gpu-{self.workers_started}")
        return self.gpu

    def replace_worker(self) -> Worker:
        self.workers_started += 1
        self.worker = self.workers.start("worker", f"worker-{self.workers_started}")
        return self.worker

    def log(self, run: str, task: str, number: int = 1, dag_id: str = WEEKLY) -> str:
        """The log of an attempt so far; empty before it has begun."""
        folder = self.live.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run}" / f"task_id={task}"
        path = folder / f"attempt={number}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_event(self, run: str, task: str, event: str, dag_id: str = WEEKLY) -> None:
        """Wait until the first attempt has logged `event`; fail if the run ends without it."""

        def logged() -> bool:
            assert self.live.state(run, dag_id) not in {"success", "failed"}, self.live.explain(run, dag_id)
            return event in self.log(run, task, dag_id=dag_id)

        until(f"{event} of {run}", logged, pause=0.1)


def dag_runs(live: Live, dag_id: str = WEEKLY) -> list[str]:
    """The ids of the DAG's runs."""
    return [str(run["dag_run_id"]) for run in live.rest.call("GET", f"dags/{dag_id}/dagRuns")["dag_runs"]]


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    server = shutil.which("redis-server") or missing("redis-server is missing")
    directory = tmp_path_factory.mktemp("cluster")
    stack, proxies = Stack(directory), list[Proxy]()
    broker = Broker(str(server), directory / "redis", free_port())

    def proxy(port: int) -> int:
        proxies.append(Proxy(port))
        return proxies[0].server_port

    try:
        stack.up(broker.program())
        executor = partial(production.options, broker)
        live = Live(
            stack, *assembly.start(stack, directory, settings={**SETTINGS, **OWN}, executor=executor, proxy=proxy)
        )
        workers = WorkerFactory(stack, live.airflow, broker, directory)
        with ThreadPoolExecutor() as pool:
            worker, gpu = (
                pool.submit(workers.start, "worker", "worker-1"),
                pool.submit(workers.start, "gpu-worker", "gpu-1"),
            )
        yield Cluster(live, workers, proxies[0], worker.result(), gpu.result())
    finally:
        stack.stop()
        for one in proxies:
            one.shutdown()
            one.server_close()
        postgres.remove(directory / "postgres")


@dataclass(frozen=True)
class FirstWeek:
    """The scheduled run over the last complete week, the workers that ran it, and their files right afterwards."""

    run: str
    worker: Worker
    gpu: Worker
    files: tuple[Path, ...]


@pytest.fixture(scope="package")
def first_week(cluster: Cluster) -> FirstWeek:
    live = cluster.live
    live.add_feedback(rows_of(WEEKS - 1))
    live.rest.unpause(WEEKLY)
    (run,) = until("the scheduled run", lambda: dag_runs(live), 60)
    assert live.wait_for_end(run) == "success", live.explain(run)
    files = (*cluster.gpu.files(), *cluster.worker.files())
    return FirstWeek(run, cluster.worker, cluster.gpu, files)
