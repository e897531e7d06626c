"""kill -9 at every point of publish, deploy and verify: the retry, in a new process, completes the work once.

Without Airflow. That it retries is proven in tests/integration/test_killed_tasks.
"""

import time
from dataclasses import replace
from typing import Any

import pytest

from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry import manifest
from learning_engine.steps import maintain as maintain_step
from tests.faults.weeks import RUN_OF_WEEK, Moment, Weeks, Worker

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
SIGKILL = 9
RUN = RUN_OF_WEEK.to_json()


def numbers(weeks: Weeks) -> list[str]:
    return [version.version for version in weeks.loop().resources.registry.versions()]


def points_of(worker: Worker, step: str, **arguments: Any) -> list[str]:
    """Every point of the step, from an undisturbed attempt."""
    answer = worker.do(step, **arguments)
    assert "made" in answer, answer
    points: list[str] = answer["points"]
    return points


def killed(worker: Worker, number: int, step: str, **arguments: Any) -> None:
    assert worker.do(step, die_at=number, **arguments) == {"killed_by": SIGKILL}


def done(worker: Worker, step: str, **arguments: Any) -> Any:
    answer = worker.do(step, **arguments)
    assert "made" in answer, answer
    return answer["made"]


def test_before_the_metadata_of_publish(weeks: Weeks, worker: Worker) -> None:
    work = publishing(weeks)
    weeks.back_to(weeks.before["publish"])
    last = max(index for index, point in enumerate(points_of(worker, "publish", **work), 1) if "before" in point)
    weeks.back_to(weeks.before["publish"])
    earlier = numbers(weeks)
    killed(worker, last, "publish", **work)
    assert numbers(weeks) == earlier
    done(worker, "publish", **work)
    assert numbers(weeks) == [*earlier, "v1.2"]


def publishing(weeks: Weeks) -> dict[str, Any]:
    return {
        "dataset": weeks.dataset.to_json(),
        "candidate": weeks.candidate.to_json(),
        "report": weeks.report.to_json(),
        "run": RUN,
    }


@pytest.mark.stack
def test_between_any_two_writes_of_publish(weeks: Weeks, worker: Worker) -> None:
    work = publishing(weeks)
    weeks.back_to(weeks.before["publish"])
    earlier = numbers(weeks)
    points = points_of(worker, "publish", **work)
    written = [point.rpartition("/")[2] for point in points if point.startswith("before")]
    claim = manifest.claim_name(weeks.dataset.run_key)
    assert written == [claim, "adapter.tar.gz", "heldout.parquet", "probes.json", "README.md", "metadata.json"]
    for number in range(1, len(points) + 1):
        weeks.back_to(weeks.before["publish"])
        killed(worker, number, "publish", **work)
        published = number == len(points)
        assert numbers(weeks) == earlier + ["v1.2"] * published, points[number - 1]
        made = AdapterVersion.from_json(done(worker, "publish", **work))
        resources = weeks.loop().resources
        assert numbers(weeks) == [*earlier, "v1.2"]
        assert resources.registry.find(weeks.dataset.run_key) == made == resources.registry.get("v1.2")
        assert maintain_step.audit(resources) == {"versions": 3, "findings": []}


class Serving:
    """deploy and verify of one version by workers that are killed, each attempt in a new process."""

    def __init__(self, weeks: Weeks, worker: Worker, begin: Moment, version: str, run: RunInfo, **how: Any) -> None:
        self.weeks, self.worker, self.begin = weeks, worker, begin
        weeks.back_to(begin)
        self.version = weeks.loop().resources.registry.get(version)
        self.name = manifest.server_name(version, self.version.sha256)
        self.order = {"version": self.version.to_json(), "run": run.to_json(), **how}
        self.entries = len(weeks.loop().resources.ledger.entries())
        self.points = points_of(worker, "deploy", **self.order)
        self.loaded = weeks.now(f"loaded {version}")
        self.deployment = done(worker, "deploy", **self.order)

    def kill_deploy(self, number: int) -> None:
        """Kill deploy at a point; the retry deploys and then verifies."""
        self.weeks.back_to(self.begin)
        killed(self.worker, number, "deploy", **self.order)
        if "sent POST" in self.points[number - 1]:
            self.until_loaded()
        placed = self.weeks.adapters / self.name
        assert not placed.exists() or {path.name for path in placed.iterdir()} == FILES
        self.is_complete(done(self.worker, "verify", deployment=done(self.worker, "deploy", **self.order)))

    def kill_verify(self, number: int) -> None:
        self.weeks.back_to(self.loaded)
        killed(self.worker, number, "verify", deployment=self.deployment)
        self.is_complete(done(self.worker, "verify", deployment=self.deployment))

    def until_loaded(self) -> None:
        """Wait until the server has completed the load that the killed worker requested."""
        deadline = time.monotonic() + 20
        while self.name not in self.weeks.server.replica.models():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def is_complete(self, made: Any) -> None:
        weeks, resources = self.weeks, self.weeks.loop().resources
        entries = resources.ledger.entries()
        assert len(entries) == self.entries + 1
        assert entries[0] == Deployment.from_json(made) == resources.ledger.current()
        assert resources.store.get_json(manifest.CURRENT) == entries[0].to_json()
        assert entries[0].adapter_name == self.name
        listed = weeks.server.replica.models()[1:]
        assert sorted(listed) == sorted({self.name, *[entries[0].previous_adapter_name or self.name]})
        assert {path.name for path in weeks.adapters.iterdir() if "~" not in path.name} == set(listed)


@pytest.fixture
def third(weeks: Weeks, worker: Worker) -> Serving:
    return Serving(weeks, worker, weeks.before["deploy"], "v1.2", RUN_OF_WEEK)


def test_after_the_server_has_loaded_the_adapter(third: Serving) -> None:
    third.kill_deploy(third.points.index("sent POST v1/load_lora_adapter") + 1)


def test_between_ledger_and_pointer(third: Serving, worker: Worker) -> None:
    third.weeks.back_to(third.loaded)
    points = points_of(worker, "verify", deployment=third.deployment)
    third.kill_verify(
        next(number for number, name in enumerate(points, 1) if "before PUT" in name and "current" in name)
    )


@pytest.mark.stack
def test_at_any_point_of_deploy(third: Serving) -> None:
    assert {"os.rename .v1.2", "sent POST v1/load_lora_adapter", "before POST v1/chat/completions"} <= {
        point.partition("-")[0] if point.startswith("os") else point for point in third.points
    }
    for number in range(1, len(third.points) + 1):
        third.kill_deploy(number)


@pytest.mark.stack
def test_at_any_point_of_verify(third: Serving, worker: Worker) -> None:
    third.weeks.back_to(third.loaded)
    points = points_of(worker, "verify", deployment=third.deployment)
    changes = [point.split()[2].partition("deployments/")[2][:6] for point in points if point.startswith("before PUT")]
    assert changes == ["ledger", "curren"]
    assert "sent POST v1/unload_lora_adapter" in points
    for number in range(1, len(points) + 1):
        third.kill_verify(number)


@pytest.mark.stack
def test_at_any_point_of_a_rollback(weeks: Weeks, worker: Worker) -> None:
    run = replace(RUN_OF_WEEK, run_id="back")
    back = Serving(weeks, worker, weeks.before["extract"], "v1.0", run, action="rollback", by_hand=True)
    weeks.back_to(back.loaded)
    points = points_of(worker, "verify", deployment=back.deployment)
    assert any(point.endswith("adapters/v1.1/revoked.json") for point in points)
    writes = {index for index, point in enumerate(points, 1) if "PUT" in point}
    for number in sorted(writes | {index + 1 for index in writes}):
        back.kill_verify(number)
        assert weeks.loop().resources.registry.revoked("v1.1") is not None
