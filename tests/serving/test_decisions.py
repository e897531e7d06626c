"""Decisions that are retried, cleared or overtaken: a revoked version stays out, unless a person asks for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.errors import RegistryError, StoreError
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry import manifest
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps.resources import Resources, ServingPlace
from tests.object_stores import new_bucket
from tests.serving.conftest import ModelServer, model_servers
from tests.serving.served import LIMITS, Chain

REVOCATION_OF_V1_0 = manifest.adapter_key("v1.0", manifest.REVOKED)


@dataclass(frozen=True)
class Scene:
    """Three versions, each continuing the previous one. v1.0 and then v1.1 were deployed automatically."""

    resources: Resources
    versions: list[AdapterVersion]

    def load(self, number: int, run_id: str, **how: Any) -> Deployment:
        """Run the task deploy in the run `run_id`; return its result as verify receives it."""
        run = RunInfo("learning_engine_weekly", run_id, "manual", "ada")
        made = deploy_step.deploy(self.resources, self.versions[number], run=run, decided_by=run_id, **how)
        return Deployment.from_json(made.to_json())

    def verify(self, loaded: Deployment) -> Deployment:
        return deploy_step.verify(self.resources, loaded)

    def roll_back(self, run_id: str = "back") -> Deployment:
        """Roll back by hand to the previous version."""
        target = deploy_step.choose(self.resources, action="rollback", version=None)
        number = [version.version for version in self.versions].index(target.version)
        return self.verify(self.load(number, run_id, action="rollback", by_hand=True))

    def live(self) -> str | None:
        pointer = Deployment.from_json(self.resources.store.get_json("deployments/current.json"))
        assert pointer == self.resources.ledger.newest()
        return pointer.version

    def decisions(self) -> list[str]:
        """Who made each decision, oldest first."""
        return [entry.decided_by for entry in reversed(self.resources.ledger.entries())]

    def revoke(self, number: int) -> None:
        """Revoke a version without a deployment, as a rejected approval does."""
        self.resources.registry.revoke(self.versions[number].version, by="ada, by rejection", reason="rejected")


@pytest.fixture(scope="module")
def chain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(base, tmp_path_factory.mktemp("chain"), versions=3, probes=1)


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ModelServer]:
    with model_servers(base, ["--hazards", "none"]) as (only,):
        yield only


@pytest.fixture
def scene(chain: Chain, server: ModelServer, moto: ObjectStore, tmp_path: Path) -> Scene:
    store, adapters = new_bucket(moto), tmp_path / "adapters"
    place = ServingPlace((server.url,), adapters, str(adapters))
    settings = config.load().model_copy(update={"serving": LIMITS})
    made = Scene(Resources(settings, lambda: store, lambda: None, lambda: place), chain.publish(store))
    for number in (0, 1):
        made.verify(made.load(number, f"week {number}"))
    return made


def without_new_fields(loaded: Deployment) -> Deployment:
    """The XCom of a run that began before the upgrade."""
    data = loaded.to_json()
    del data["follows"], data["despite"]
    return Deployment.from_json(data)


Age = Callable[[Deployment], Deployment]


@pytest.fixture(
    params=[lambda loaded: loaded, pytest.param(without_new_fields, marks=pytest.mark.stack)],
    ids=["current", "from before the upgrade"],
)
def age(request: pytest.FixtureRequest) -> Age:
    found: Age = request.param
    return found


def test_a_verify_that_is_cleared_after_a_rollback_deploys_nothing(scene: Scene, age: Age) -> None:
    loaded = age(scene.load(2, "week 2"))
    assert scene.verify(loaded).version == "v1.2"
    scene.roll_back()
    with pytest.raises(RegistryError, match=r"v1\.2, which this run deployed at .* found v1\.1") as refused:
        scene.verify(loaded)
    assert not refused.value.retryable
    assert scene.live() == "v1.1"
    assert scene.decisions() == ["week 0", "week 1", "week 2", "back"]


def test_a_verify_that_is_cleared_after_a_later_week_deploys_nothing(scene: Scene) -> None:
    loaded = scene.load(1, "again", by_hand=True)
    scene.verify(loaded)
    scene.verify(scene.load(2, "week 2"))
    with pytest.raises(RegistryError, match=r"found v1\.2"):
        scene.verify(loaded)
    assert scene.live() == "v1.2"


def test_a_verify_that_is_retried_while_its_decision_is_in_force_repeats_nothing(scene: Scene, age: Age) -> None:
    loaded = age(scene.load(2, "week 2"))
    assert scene.verify(loaded) == scene.verify(loaded)
    assert scene.decisions() == ["week 0", "week 1", "week 2"]


def rollback_that_died(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A rollback from v1.1 to v1.0 whose `verify` recorded it and died before it revoked v1.1."""
    back = scene.load(0, "back", action="rollback", by_hand=True)

    def dies(*_: Any, **__: Any) -> None:
        raise StoreError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(type(scene.resources.registry), "revoke", dies)
        with pytest.raises(StoreError):
            scene.verify(back)
    return back


def test_a_rollback_that_died_before_it_revoked_revokes_when_it_is_retried(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = rollback_that_died(scene, monkeypatch)
    scene.verify(scene.load(2, "by hand", by_hand=True))
    with pytest.raises(RegistryError, match=r"found v1\.2"):
        scene.verify(back)
    assert scene.live() == "v1.2"
    assert scene.resources.registry.revoked("v1.1") is not None


def test_a_retried_rollback_does_not_revoke_what_a_person_has_deployed_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = rollback_that_died(scene, monkeypatch)
    scene.verify(scene.load(1, "by hand", by_hand=True))
    with pytest.raises(RegistryError, match=r"found v1\.1"):
        scene.verify(back)
    assert scene.live() == "v1.1"
    assert scene.resources.registry.revoked("v1.1") is None


def test_a_lost_ancestor_does_not_block_a_rollback(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.verify(scene.load(2, "week 2"))
    store = scene.resources.store
    store.delete([manifest.adapter_key("v1.0", manifest.METADATA)])
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}{REVOCATION_OF_V1_0}", Body=b"{")
    scene.resources.registry._read.clear()
    assert accepted_step.revoked_of(scene.resources, "v1.1") == ["v1.0"], "a corrupt record of it still revokes"
    store.delete([REVOCATION_OF_V1_0])
    assert scene.roll_back().version == "v1.1"
    assert scene.live() == "v1.1"
    assert "deploy.ancestors_unknown" in caplog.text


def test_a_pending_deployment_of_the_live_version_is_refused_after_a_rollback(scene: Scene, age: Age) -> None:
    again = age(scene.load(1, "again", by_hand=True))
    scene.roll_back()
    with pytest.raises(RegistryError):
        scene.verify(again)
    assert scene.live() == "v1.0"


def test_a_loaded_version_is_refused_after_two_deployments_that_end_where_they_began(scene: Scene) -> None:
    loaded = scene.load(2, "week 2")
    scene.verify(scene.load(0, "back by hand", by_hand=True))
    scene.verify(scene.load(1, "again by hand", by_hand=True))
    with pytest.raises(RegistryError, match="another deployment happened meanwhile"):
        scene.verify(loaded)
    assert scene.live() == "v1.1"


def test_a_version_revoked_after_it_was_loaded_does_not_go_live(scene: Scene, age: Age) -> None:
    loaded = age(scene.load(2, "week 2"))
    scene.revoke(2)
    with pytest.raises(RegistryError, match=r"found v1\.2 revoked"):
        scene.verify(loaded)
    assert scene.live() == "v1.1"


def test_a_cleared_week_does_not_deploy_a_revoked_version_even_if_it_is_live(scene: Scene) -> None:
    scene.roll_back()
    scene.verify(scene.load(1, "by hand", by_hand=True, despite=["v1.1"]))
    with pytest.raises(RegistryError, match="revoked"):
        scene.load(1, "week 1")
    assert scene.decisions()[-1] == "by hand"


def test_a_person_may_deploy_a_revoked_version_and_the_ledger_records_it(scene: Scene) -> None:
    scene.roll_back()
    chosen = accepted_step.revoked_of(scene.resources, "v1.1")
    made = scene.verify(scene.load(1, "by hand", by_hand=True, despite=chosen))
    assert (scene.live(), made.despite) == ("v1.1", ["v1.1"])


def test_a_version_revoked_after_a_person_chose_it_must_be_chosen_again(scene: Scene) -> None:
    """A deployment by hand is retried after a rollback."""
    chosen = accepted_step.revoked_of(scene.resources, "v1.1")
    scene.roll_back()
    with pytest.raises(RegistryError, match=r"found v1\.1 revoked"):
        scene.load(1, "by hand", by_hand=True, despite=chosen)


def test_a_deployment_by_hand_that_is_cleared_from_its_first_task_is_a_new_decision(scene: Scene) -> None:
    scene.verify(scene.load(2, "by hand", by_hand=True))
    scene.roll_back()
    chosen = accepted_step.revoked_of(scene.resources, "v1.2")
    scene.verify(scene.load(2, "by hand", by_hand=True, despite=chosen))
    assert scene.live() == "v1.2"
    assert scene.decisions()[-3:] == ["by hand", "back", "by hand"]


def test_later_weeks_name_the_revoked_live_version_that_blocks_them(scene: Scene) -> None:
    scene.roll_back()
    scene.verify(scene.load(1, "by hand", by_hand=True, despite=["v1.1"]))
    next_week = replace(scene.versions[2], version="v1.3", parent="v1.0")
    scene.resources.registry._read["v1.3"] = next_week
    decision = accepted_step.may_deploy(scene.resources, next_week, force=False)
    assert not decision.deploy
    assert accepted_step.may_deploy(scene.resources, scene.versions[2], force=False).why == (
        "v1.2 continues v1.1, which was revoked"
    )
    assert decision.why == (
        "the live version v1.1 was revoked, so no later version continues it: "
        "deploy v1.3 by hand, then later versions deploy automatically"
    )
