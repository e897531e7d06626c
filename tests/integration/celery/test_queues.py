"""A week under CeleryExecutor: GPU tasks run on the GPU worker, all others on the other worker."""

from typing import Any

import pytest

from tests.integration.celery import production
from tests.integration.celery.conftest import Cluster, FirstWeek
from tests.integration.conftest import WEEKS, week
from tests.integration.test_rest import api

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]
HEAVY = {"fisher", "train", "evaluate"}
SERVING = {"deploy", "verify"}


@pytest.fixture(scope="module")
def tasks(cluster: Cluster, first_week: FirstWeek) -> dict[str, Any]:
    return cluster.live.tasks(first_week.run)


def test_the_scheduled_week_is_learned_and_deployed(cluster: Cluster, first_week: FirstWeek):
    (version,) = [one for one in cluster.live.resources.registry.versions() if one.window == week(WEEKS - 1)]
    (entry,) = [one for one in cluster.live.resources.ledger.entries() if one.version == version.version]
    assert (version.version, version.run.run_id, entry.run.run_id) == ("v1.0", first_week.run, first_week.run)
    states = cluster.live.states(first_week.run)
    assert states == dict.fromkeys(states, "success")


def test_only_fisher_train_and_evaluate_run_on_the_gpu_worker(first_week: FirstWeek, tasks: dict[str, Any]):
    assert first_week.gpu.attempts_of(first_week.run) == [("fisher", 1), ("train", 1), ("evaluate", 1)]
    assert sorted(first_week.worker.attempts_of(first_week.run)) == sorted((name, 1) for name in tasks.keys() - HEAVY)


def test_queues_are_the_configured_ones(tasks: dict[str, Any]):
    expected = dict.fromkeys(HEAVY, production.QUEUE) | dict.fromkeys(SERVING, "deploy")
    assert {name: task["queue"] for name, task in tasks.items()} == {
        name: expected.get(name, "default") for name in tasks
    }


def test_pools_are_the_configured_ones_with_one_slot(cluster: Cluster, tasks: dict[str, Any]):
    expected = dict.fromkeys(HEAVY, production.POOL) | dict.fromkeys(SERVING | {"publish"}, "learning_engine_registry")
    assert {name: task["pool"] for name, task in tasks.items()} == {
        name: expected.get(name, "default_pool") for name in tasks
    }
    for name in set(expected.values()):
        assert cluster.live.rest.call("GET", f"pools/{name}")["slots"] == 1


def test_each_worker_listens_to_its_own_queues(cluster: Cluster):
    for worker, queues in ((cluster.worker, {"default", "deploy"}), (cluster.gpu, {production.QUEUE})):
        (found,) = cluster.workers.inspect(worker.name).active_queues().values()
        assert {queue["name"] for queue in found} == queues


def test_health_names_the_worker_of_the_train_queue(cluster: Cluster):
    checks = api(cluster.live, "GET", "health").json()["checks"]
    (found,) = [check for check in checks if check["kind"] == "gpu_workers"]
    names = list(cluster.workers.inspect(cluster.gpu.name).active_queues())
    assert (found["state"], found["detail"]) == ("up", {"queue": production.QUEUE, "workers": names})


def test_no_file_of_the_week_is_left_on_the_workers(first_week: FirstWeek):
    assert [path for path in first_week.files if "learning" in path.name] == []
