"""Workers that end in other ways: stopped as a container is, or gone with a task that they had not begun."""

import signal
from typing import Any

import pytest

from demo import process_tree
from tests.integration.celery.conftest import FirstWeek, Plant
from tests.integration.conftest import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
FISHER, TASK = "learning_engine_fisher", "fisher_of_version"


def measure(plant: Plant) -> str:
    """The id of a run by hand whose one task needs a GPU."""
    plant.live.rest.unpause(FISHER)
    return plant.live.trigger(FISHER, conf={"version": "v1.0"})


def ended(plant: Plant, run: str) -> dict[str, Any]:
    """The run's one task, which has ended well."""
    assert plant.live.ended(run, FISHER) == "success", plant.live.explain(run, FISHER)
    return dict(plant.live.tasks(run, FISHER)[TASK])


def test_a_worker_that_is_stopped_ends_its_task_first_and_takes_no_other(plant: Plant, first_week: FirstWeek):
    run = measure(plant)
    plant.begun(run, TASK, "fisher.start", FISHER)
    stopped = plant.gpu
    stopped.running.leader().send_signal(signal.SIGTERM)
    assert "fisher.end" not in plant.log(run, TASK, dag_id=FISHER)
    until("the worker to end", lambda: stopped.running.leader() is None, 60)
    task = ended(plant, run)
    assert (task["try_number"], stopped.took(run)) == (1, [(TASK, 1)])
    following = measure(plant)
    until("the next task in the queue", lambda: plant.live.states(following, FISHER).get(TASK) == "queued", 60)
    gpu = plant.replace_gpu()
    assert (ended(plant, following)["try_number"], gpu.took(following)) == (1, [(TASK, 1)])
    assert stopped.took(following) == []


def test_a_task_that_went_down_with_a_worker_before_it_began_is_sent_again(plant: Plant, first_week: FirstWeek):
    broker, processes = plant.crew.broker, plant.gpu.running.tree()
    before = broker.unacknowledged()
    run = measure(plant)
    until("the worker to take the task", lambda: broker.unacknowledged() - before, 60, pause=0.001)
    process_tree.signal_all(processes, signal.SIGSTOP)
    plant.gpu.freeze()
    assert plant.live.states(run, FISHER) == {TASK: "queued"}
    plant.gpu.kill()
    gpu = plant.replace_gpu()
    assert (ended(plant, run)["try_number"], gpu.took(run)) == (1, [(TASK, 1)])
