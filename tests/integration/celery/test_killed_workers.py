"""Workers whose power is cut in the middle of a step: another one takes the retry, the week ends as if undisturbed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from learning_engine.records.contracts import AdapterVersion, Dataset, FisherRecord, Window
from learning_engine.registry import manifest
from learning_engine.steps import train as train_step
from tests.integration.celery.conftest import CHECKPOINT_STEPS, FirstWeek, Plant
from tests.integration.celery.crew import Worker
from tests.integration.conftest import LAST_END, rows_of, until
from tests.steps.conftest import Loop

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
# After the scheduled week. Thirty rows in batches of eight: four steps an epoch.
WINDOW = Window(LAST_END, LAST_END + timedelta(days=1))
TRAINING = {"epochs": 75, "learning_rate": 0.002}
STEPS = 300
LOAD = "/v1/load_lora_adapter"
# Between a worker's death and its next try: heartbeat time-out, two looks, retry delay, a busy machine.
NOTICED_SECONDS = 60


@dataclass
class Battered:
    """A weekly run that lost a worker in four of its tasks."""

    run: str
    killed: dict[str, Worker] = field(default_factory=dict)
    next: dict[str, Worker] = field(default_factory=dict)
    killed_at: dict[str, datetime] = field(default_factory=dict)
    checkpoint: int = 0

    def kill(self, task: str, worker: Worker, replace: Callable[[], Worker], plant: Plant) -> None:
        """Kill the worker in the middle of the task, and hire another one."""
        worker.freeze()
        log = plant.log(self.run, task)
        assert f"{task}.start" in log
        assert f"{task}.end" not in log, f"{task} was quicker than the test"
        if task == "train":
            self.checkpoint = checkpoint(plant, self.run)
        worker.kill()
        self.killed[task], self.killed_at[task] = worker, datetime.now(UTC)
        self.next[task] = replace()


def checkpoint(plant: Plant, run: str) -> int:
    """The step of the newest checkpoint of the run's training in the bucket; 0 without one."""
    prefix = manifest.run_key(plant.live.xcom(run, "extract")["run_key"], "checkpoints/")
    names = [Path(item.key).name for item in plant.live.resources.store.list(prefix)]
    return max((int(name.removesuffix(".tar.gz")) for name in names), default=0)


@pytest.fixture(scope="module")
def battered(plant: Plant, first_week: FirstWeek) -> Battered:
    start = WINDOW.start
    rows = [
        {**row, "created_at": (start + timedelta(minutes=index)).isoformat()} for index, row in enumerate(rows_of(0))
    ]
    plant.live.add_feedback(rows)
    window = {"window_start": start.isoformat(), "window_end": WINDOW.end.isoformat()}
    made = Battered(plant.live.trigger(conf={**window, **TRAINING}))
    with plant.front.hold(LOAD) as loaded:
        plant.begun(made.run, "fisher", "fisher.start")
        made.kill("fisher", plant.gpu, plant.replace_gpu, plant)

        plant.begun(made.run, "train", "train.start")
        until("the second checkpoint", lambda: checkpoint(plant, made.run) >= 2 * CHECKPOINT_STEPS, pause=0.05)
        made.kill("train", plant.gpu, plant.replace_gpu, plant)

        plant.begun(made.run, "evaluate", "evaluate.start")
        made.kill("evaluate", plant.gpu, plant.replace_gpu, plant)

        plant.begun(made.run, "deploy", "deploy.start")
        until("the adapter on the server", loaded.is_set, 60, pause=0.1)
        made.kill("deploy", plant.worker, plant.replace_worker, plant)
    assert plant.live.ended(made.run) == "success", plant.live.explain(made.run)
    return made


@pytest.fixture(scope="module")
def version(plant: Plant, battered: Battered) -> AdapterVersion:
    (found,) = [one for one in plant.live.resources.registry.versions() if one.window == WINDOW]
    return found


@pytest.mark.parametrize("task", ["fisher", "train", "evaluate", "deploy"])
def test_the_next_worker_takes_the_retry(plant: Plant, battered: Battered, task: str):
    assert (task, 1) in battered.killed[task].took(battered.run)
    assert (task, 2) in battered.next[task].took(battered.run)
    tried = plant.live.tasks(battered.run)[task]
    assert (tried["state"], tried["try_number"]) == ("success", 2)
    waited = (datetime.fromisoformat(tried["start_date"]) - battered.killed_at[task]).total_seconds()
    print(f"{task}: tried again after {waited:.1f} s")
    assert waited < NOTICED_SECONDS


def test_every_other_task_ran_once(plant: Plant, battered: Battered):
    tries = {name: task["try_number"] for name, task in plant.live.tasks(battered.run).items()}
    assert {name for name, number in tries.items() if number != 1} == set(battered.killed)


def test_the_training_goes_on_from_the_last_checkpoint_in_the_bucket(battered: Battered, version: AdapterVersion):
    assert version.training.resumed_at_step == battered.checkpoint
    assert version.training.steps == STEPS
    print(f"resumed at {battered.checkpoint}; {version.training.seconds:.1f} s of training after it")


def test_curve_and_adapter_are_those_of_an_undisturbed_training(
    plant: Plant, battered: Battered, version: AdapterVersion, tmp_path: Path
):
    live = plant.live
    loop = Loop(live.resources, tmp_path).with_settings(training=TRAINING)
    dataset = Dataset.from_json(live.xcom(battered.run, "extract"))
    fisher = FisherRecord.from_json(live.xcom(battered.run, "fisher"))
    staged = [item.key for item in live.resources.store.list(manifest.run_key(dataset.run_key, ""))]
    live.resources.store.delete([key for key in staged if not key.endswith("dataset.parquet")])
    whole = train_step.train(loop.resources, dataset, fisher)
    assert whole.training.resumed_at_step == 0
    assert len(whole.training.curve) == STEPS / int(live.resources.settings.training.log_steps)
    assert version.training.curve == whole.training.curve
    assert version.sha256 == whole.sha256


def test_one_version_is_published_once(plant: Plant, battered: Battered, version: AdapterVersion):
    registry = plant.live.resources.registry
    assert [one.version for one in registry.versions()] == ["v1.0", "v1.1"]
    numbers = {item.key.split("/")[1] for item in plant.live.resources.store.list("adapters/")}
    assert numbers == {"v1.0", "v1.1"}, "no other number is reserved"
    events = plant.live.rest.call("GET", "assets/events", params={"source_run_id": battered.run})["asset_events"]
    assert [event["extra"]["version"] for event in events] == [version.version]


def test_one_ledger_entry_and_one_adapter_of_the_name_on_the_server(
    plant: Plant, battered: Battered, version: AdapterVersion
):
    ledger = plant.live.resources.ledger
    (entry,) = [one for one in ledger.entries() if one.version == version.version]
    assert ledger.current() == entry
    listed = requests.get(f"{plant.front.behind}/v1/models", timeout=10).json()["data"]
    assert [one["id"] for one in listed].count(entry.adapter_name) == 1
    loads = [body for path, body in plant.front.asked if path == LOAD and entry.adapter_name in body]
    assert len(loads) == 1, "the retry finds it loaded"
