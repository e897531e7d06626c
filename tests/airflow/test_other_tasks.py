"""The tasks of the smaller DAGs: how they use results of earlier tasks, and how they react to later changes."""

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.airflow import other_tasks
from learning_engine.records.contracts import AdapterVersion, Deployment
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import monitor as monitor_step
from learning_engine.steps.monitor import Verdict
from learning_engine.steps.resources import Resources, ServingPlace
from tests.airflow.test_weekly_tasks import TaskInstance
from tests.object_stores import new_bucket
from tests.registry import work


@dataclass(frozen=True)
class Harness:
    """A run's context, and a bucket with three versions, of which v1.0 and then v1.1 went live. `deployed` has the
    deployments requested from the server."""

    context: dict[str, Any]
    resources: Resources
    deployed: list[dict[str, Any]]

    def goes_live(self, version: str, number: int, action: str = "deploy") -> None:
        live = self.resources.ledger.newest()
        made = work.deployment(version, work.MONDAY + timedelta(hours=number), action, number)
        self.resources.ledger.record(dataclasses.replace(made, previous=live.version if live else None))

    def set_xcom(self, task_id: str, value: Any, key: str = "return_value") -> None:
        self.context["ti"].upstream[task_id, key] = value

    def choose(self) -> dict[str, Any]:
        """Run the task and keep its XComs."""
        choice = other_tasks.choose()
        for key, value in self.context["ti"].pushed.items():
            self.set_xcom("choose", value, key)
        return choice


@pytest.fixture
def harness(moto: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    store = new_bucket(moto)
    work.chain(store, Registry(store, settle_seconds=0), 3)
    place = ServingPlace((), tmp_path, str(tmp_path))
    resources = Resources(config.load(), lambda: store, lambda: None, lambda: place)
    run = SimpleNamespace(dag_id="d", run_id="r", run_type="manual", triggering_user_name="ada")
    context = {"params": {"action": "rollback", "version": None}, "dag_run": run, "ti": TaskInstance()}
    deployed: list[dict[str, Any]] = []

    def deploy(resources: Resources, version: AdapterVersion, *, run: Any, **how: Any) -> Deployment:
        deployed.append({"version": version.version, **how})
        return work.deployment(version.version, work.MONDAY)

    monkeypatch.setattr(deploy_step, "deploy", deploy)
    monkeypatch.setattr(other_tasks, "resources_of", lambda _: resources)
    monkeypatch.setattr(other_tasks, "get_current_context", lambda: context)
    made = Harness(context, resources, deployed)
    made.goes_live("v1.0", 0)
    made.goes_live("v1.1", 1)
    return made


def run_watch(harness: Harness, monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    """Run the task `watch` and keep its XCom."""
    monkeypatch.setattr(monitor_step, "judge", lambda _: verdict)
    assert other_tasks.watch()
    harness.set_xcom("watch", harness.context["ti"].pushed["verdict"], "verdict")


BAD = Verdict(True, "thumbs down rose", "v1.1")


def test_monitoring_rolls_back_the_version_that_it_judged(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run_watch(harness, monkeypatch, BAD)
    other_tasks.roll_back()
    (one,) = harness.deployed
    assert (one["version"], one["action"], one["decided_by"]) == ("v1.0", "rollback", "monitoring: thumbs down rose")


def test_monitoring_does_not_roll_back_a_version_that_went_live_after_its_verdict(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_watch(harness, monkeypatch, BAD)
    harness.goes_live("v1.2", 2)
    with pytest.raises(AirflowSkipException, match=r"Expected v1\.1, .* to be live, found v1\.2"):
        other_tasks.roll_back()
    assert harness.deployed == []


def test_a_verdict_from_before_an_upgrade_rolls_nothing_back(harness: Harness) -> None:
    harness.set_xcom("watch", {"roll_back": True, "why": "thumbs down rose"}, "verdict")
    with pytest.raises(AirflowSkipException, match="names no version"):
        other_tasks.roll_back()
    assert harness.deployed == []


def test_a_watch_task_marked_as_a_success_rolls_nothing_back(harness: Harness) -> None:
    with pytest.raises(AirflowFailException, match="from watch"):
        other_tasks.roll_back()
    assert harness.deployed == []


def test_a_rollback_without_an_earlier_version_fails(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run_watch(harness, monkeypatch, BAD)
    harness.resources.registry.revoke("v1.0", by="ada", reason="wrong facts")
    with pytest.raises(AirflowFailException, match="found none in the ledger"):
        other_tasks.roll_back()


def test_a_rollback_by_hand_replaces_only_the_version_that_was_live_when_requested(harness: Harness) -> None:
    choice = harness.choose()
    other_tasks.deploy_by_hand(choice)
    assert [one["version"] for one in harness.deployed] == ["v1.0"]
    harness.goes_live("v1.2", 2)
    with pytest.raises(AirflowFailException, match=r"Expected v1\.1, .* to be live, found v1\.2"):
        other_tasks.deploy_by_hand(choice)
    assert len(harness.deployed) == 1


def test_a_completed_rollback_that_is_cleared_does_not_roll_back_further(harness: Harness) -> None:
    choice = harness.choose()
    harness.goes_live("v1.0", 2, "rollback")
    with pytest.raises(AirflowFailException, match=r"found v1\.0"):
        other_tasks.deploy_by_hand(choice)


def test_a_deployment_by_hand_accepts_only_revocations_from_before_the_choice(harness: Harness) -> None:
    harness.context["params"] = {"action": "deploy", "version": "v1.2"}
    before = harness.choose()
    harness.resources.registry.revoke("v1.1", by="ada", reason="rolled back")
    other_tasks.deploy_by_hand(before)
    other_tasks.deploy_by_hand(harness.choose())
    assert [one["despite"] for one in harness.deployed] == [[], ["v1.1"]]


def test_a_choice_from_before_an_upgrade_is_still_read(harness: Harness) -> None:
    for params in ({"action": "deploy", "version": "v1.2"}, {"action": "rollback", "version": None}):
        harness.context["params"] = params
        other_tasks.deploy_by_hand(other_tasks.choose())
    assert [one["version"] for one in harness.deployed] == ["v1.2", "v1.0"]
    assert Ledger(harness.resources.store).newest() == harness.resources.ledger.newest()
