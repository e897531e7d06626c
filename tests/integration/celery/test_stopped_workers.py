"""Workers that end in other ways: stopped like a container, or killed with a task that they had not begun."""

import signal
from typing import Any

import pytest

from demo import process_tree
from tests.integration.celery.conftest import Cluster, FirstWeek
from tests.integration.conftest import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
FISHER, TASK = "learning_engine_fisher", "fisher_of_version"


def start_fisher_run(cluster: Cluster) -> str:
    """Start a manual run whose only task needs a GPU; return its id."""
    cluster.live.rest.unpause(FISHER)
    return cluster.live.trigger(FISHER, conf={"version": "v1.0"})


def finished_task(cluster: Cluster, run: str) -> dict[str, Any]:
    """Wait until the run has succeeded; return its only task."""
    assert cluster.live.wait_for_end(run, FISHER) == "success", cluster.live.explain(run, FISHER)
    return dict(cluster.live.tasks(run, FISHER)[TASK])


def test_a_stopped_worker_finishes_its_task_and_takes_no_other(cluster: Cluster, first_week: FirstWeek):
    run = start_fisher_run(cluster)
    cluster.wait_for_event(run, TASK, "fisher.start", FISHER)
    stopped = cluster.gpu
    stopped.running.leader().send_signal(signal.SIGTERM)
    assert "fisher.end" not in cluster.log(run, TASK, dag_id=FISHER)
    until("the worker to end", lambda: stopped.running.leader() is None, 60)
    task = finished_task(cluster, run)
    assert (task["try_number"], stopped.attempts_of(run)) == (1, [(TASK, 1)])
    following = start_fisher_run(cluster)
    until("the next task in the queue", lambda: cluster.live.states(following, FISHER).get(TASK) == "queued", 60)
    gpu = cluster.replace_gpu()
    assert (finished_task(cluster, following)["try_number"], gpu.attempts_of(following)) == (1, [(TASK, 1)])
    assert stopped.attempts_of(following) == []


def test_a_task_lost_with_its_worker_before_it_started_is_sent_again(cluster: Cluster, first_week: FirstWeek):
    broker, processes = cluster.workers.broker, cluster.gpu.running.tree()
    before = broker.unacknowledged()
    run = start_fisher_run(cluster)
    until("the worker to take the task", lambda: broker.unacknowledged() - before, 60, pause=0.001)
    process_tree.signal_all(processes, signal.SIGSTOP)
    cluster.gpu.freeze()
    assert cluster.live.states(run, FISHER) == {TASK: "queued"}
    cluster.gpu.kill()
    gpu = cluster.replace_gpu()
    assert (finished_task(cluster, run)["try_number"], gpu.attempts_of(run)) == (1, [(TASK, 1)])
