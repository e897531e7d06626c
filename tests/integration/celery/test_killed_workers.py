"""Workers killed during a step, one of each queue: another worker, with another directory, takes the retry.

That a step repeats nothing that it has done, wherever its process is killed, is proven in tests/faults/test_kills; that
every task of a run is retried, in tests/integration/test_killed_tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from learning_engine.records.contracts import AdapterVersion, Dataset, FisherRecord, Window
from learning_engine.registry import manifest
from learning_engine.steps import train as train_step
from tests.integration.celery.conftest import CHECKPOINT_STEPS, Cluster, FirstWeek
from tests.integration.celery.workers import Worker
from tests.integration.conftest import LAST_END, rows_of, until
from tests.steps.conftest import Loop

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
# After the scheduled week. Thirty rows in batches of eight make four steps per epoch.
WINDOW = Window(LAST_END, LAST_END + timedelta(days=1))
TRAINING = {"epochs": 75, "learning_rate": 0.002}
STEPS = 300
LOAD = "/v1/load_lora_adapter"
# From a worker's death to the retry: heartbeat time-out, two checks, retry delay, a busy machine.
NOTICED_SECONDS = 60


@dataclass
class InterruptedRun:
    """A weekly run whose GPU worker was killed in `train`, and its other worker in `deploy`."""

    run: str
    killed: dict[str, Worker] = field(default_factory=dict)
    next: dict[str, Worker] = field(default_factory=dict)
    killed_at: dict[str, datetime] = field(default_factory=dict)
    checkpoint: int = 0

    def kill(self, task: str, worker: Worker, replace: Callable[[], Worker], cluster: Cluster) -> None:
        """Kill the worker during the task, and start another one."""
        worker.freeze()
        log = cluster.log(self.run, task)
        assert f"{task}.start" in log
        assert f"{task}.end" not in log, f"{task} ended before the test could kill its worker"
        if task == "train":
            self.checkpoint = checkpoint(cluster, self.run)
        worker.kill()
        self.killed[task], self.killed_at[task] = worker, datetime.now(UTC)
        self.next[task] = replace()


def checkpoint(cluster: Cluster, run: str) -> int:
    """The step of the run's newest checkpoint in the bucket; 0 without one."""
    prefix = manifest.run_key(cluster.live.xcom(run, "extract")["run_key"], "checkpoints/")
    names = [Path(item.key).name for item in cluster.live.resources.store.list(prefix)]
    return max((int(name.removesuffix(".tar.gz")) for name in names), default=0)


@pytest.fixture(scope="module")
def interrupted(cluster: Cluster, first_week: FirstWeek) -> InterruptedRun:
    start = WINDOW.start
    rows = [
        {**row, "created_at": (start + timedelta(minutes=index)).isoformat()} for index, row in enumerate(rows_of(0))
    ]
    cluster.live.add_feedback(rows)
    window = {"window_start": start.isoformat(), "window_end": WINDOW.end.isoformat()}
    result = InterruptedRun(cluster.live.trigger(conf={**window, **TRAINING}))
    with cluster.proxy.hold(LOAD) as loaded:
        cluster.wait_for_event(result.run, "train", "train.start")
        until("the second checkpoint", lambda: checkpoint(cluster, result.run) >= 2 * CHECKPOINT_STEPS, pause=0.05)
        result.kill("train", cluster.gpu, cluster.replace_gpu, cluster)

        cluster.wait_for_event(result.run, "deploy", "deploy.start")
        until("the adapter on the server", loaded.is_set, 60, pause=0.1)
        result.kill("deploy", cluster.worker, cluster.replace_worker, cluster)
    assert cluster.live.wait_for_end(result.run) == "success", cluster.live.explain(result.run)
    return result


@pytest.fixture(scope="module")
def version(cluster: Cluster, interrupted: InterruptedRun) -> AdapterVersion:
    (found,) = [one for one in cluster.live.resources.registry.versions() if one.window == WINDOW]
    return found


@pytest.mark.parametrize("task", ["train", "deploy"])
def test_the_next_worker_takes_the_retry(cluster: Cluster, interrupted: InterruptedRun, task: str):
    assert (task, 1) in interrupted.killed[task].attempts_of(interrupted.run)
    assert (task, 2) in interrupted.next[task].attempts_of(interrupted.run)
    tried = cluster.live.tasks(interrupted.run)[task]
    assert (tried["state"], tried["try_number"]) == ("success", 2)
    waited = (datetime.fromisoformat(tried["start_date"]) - interrupted.killed_at[task]).total_seconds()
    print(f"{task}: retried after {waited:.1f} s")
    assert waited < NOTICED_SECONDS


def test_every_other_task_ran_once(cluster: Cluster, interrupted: InterruptedRun):
    tries = {name: task["try_number"] for name, task in cluster.live.tasks(interrupted.run).items()}
    assert {name for name, number in tries.items() if number != 1} == set(interrupted.killed)


def test_the_training_resumes_from_the_last_checkpoint_in_the_bucket(
    interrupted: InterruptedRun, version: AdapterVersion
):
    assert version.training.resumed_at_step == interrupted.checkpoint
    assert version.training.steps == STEPS
    print(f"resumed at {interrupted.checkpoint}; {version.training.seconds:.1f} s of training after it")


def test_curve_and_adapter_are_those_of_an_undisturbed_training(
    cluster: Cluster, interrupted: InterruptedRun, version: AdapterVersion, tmp_path: Path
):
    live = cluster.live
    loop = Loop(live.resources, tmp_path).with_settings(training=TRAINING)
    dataset = Dataset.from_json(live.xcom(interrupted.run, "extract"))
    fisher = FisherRecord.from_json(live.xcom(interrupted.run, "fisher"))
    staged = [item.key for item in live.resources.store.list(manifest.run_key(dataset.run_key, ""))]
    live.resources.store.delete([key for key in staged if not key.endswith("dataset.parquet")])
    undisturbed = train_step.train(loop.resources, dataset, fisher)
    assert undisturbed.training.resumed_at_step == 0
    assert len(undisturbed.training.curve) == STEPS / int(live.resources.settings.training.log_steps)
    assert version.training.curve == undisturbed.training.curve
    assert version.sha256 == undisturbed.sha256
