"""Decisions that are tried again, cleared or overtaken: what was revoked stays away, unless a person asks for it."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from demo import object_store
from learning_engine import config
from learning_engine.config import sections
from learning_engine.errors import RegistryError, StoreError
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry.store import Store, client_config
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps.resources import Resources, ServingPlace
from tests.serving.conftest import ModelServer, model_servers
from tests.serving.served import LIMITS, Chain


@dataclass(frozen=True)
class House:
    """Three versions, each continuing the one before; v1.0 and then v1.1 went live by themselves."""

    resources: Resources
    versions: list[AdapterVersion]

    def load(self, number: int, run_id: str, **how: Any) -> Deployment:
        """The task deploy of the run `run_id`, as verify gets its result."""
        run = RunInfo("learning_engine_weekly", run_id, "manual", "ada")
        made = deploy_step.deploy(self.resources, self.versions[number], run=run, decided_by=run_id, **how)
        return Deployment.from_json(made.to_json())

    def verify(self, loaded: Deployment) -> Deployment:
        return deploy_step.verify(self.resources, loaded)

    def roll_back(self, run_id: str = "back") -> Deployment:
        """To the version before, by a person."""
        target = deploy_step.choose(self.resources, action="rollback", version=None)
        number = [version.version for version in self.versions].index(target.version)
        return self.verify(self.load(number, run_id, action="rollback", by_hand=True))

    def live(self) -> str | None:
        pointer = Deployment.from_json(self.resources.store.get_json("deployments/current.json"))
        assert pointer == self.resources.ledger.newest()
        return pointer.version

    def decisions(self) -> list[str]:
        """By whom, oldest first."""
        return [entry.decided_by for entry in reversed(self.resources.ledger.entries())]

    def revoke(self, number: int) -> None:
        """As a rejected approval does: no deployment comes with it."""
        self.resources.registry.revoke(self.versions[number].version, by="ada, by rejection", reason="rejected")


@pytest.fixture(scope="module")
def chain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(base, tmp_path_factory.mktemp("chain"), versions=3, probes=1)


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ModelServer]:
    with model_servers(base, ["--hazards", "none"]) as (only,):
        yield only


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with object_store.start(tmp_path_factory.mktemp("s3"), moto=True) as running:
        found = boto3.client(
            "s3",
            endpoint_url=running.endpoint,
            aws_access_key_id=running.access_key,
            aws_secret_access_key=running.secret_key,
            region_name=running.region,
            config=client_config(sections.Store()),
        )
        found.create_bucket(Bucket="decisions")
        yield found


@pytest.fixture
def house(chain: Chain, server: ModelServer, client: Any, tmp_path: Path) -> House:
    store, adapters = Store(client, "decisions", uuid.uuid4().hex), tmp_path / "adapters"
    place = ServingPlace((server.url,), adapters, str(adapters))
    settings = config.load().model_copy(update={"serving": LIMITS})
    made = House(Resources(settings, lambda: store, lambda: None, lambda: place), chain.publish(store))
    for number in (0, 1):
        made.verify(made.load(number, f"week {number}"))
    return made


def of_before(loaded: Deployment) -> Deployment:
    """As a run that began before the upgrade has it in its XCom."""
    data = loaded.to_json()
    del data["follows"], data["despite"]
    return Deployment.from_json(data)


Age = Callable[[Deployment], Deployment]


@pytest.fixture(params=[lambda loaded: loaded, of_before], ids=["of today", "of before the upgrade"])
def age(request: pytest.FixtureRequest) -> Age:
    found: Age = request.param
    return found


def test_a_verify_that_is_cleared_after_a_rollback_puts_nothing_live(house: House, age: Age) -> None:
    loaded = age(house.load(2, "week 2"))
    assert house.verify(loaded).version == "v1.2"
    house.roll_back()
    with pytest.raises(RegistryError, match=r"v1\.2, which this run deployed at .* found v1\.1") as refused:
        house.verify(loaded)
    assert not refused.value.retryable
    assert house.live() == "v1.1"
    assert house.decisions() == ["week 0", "week 1", "week 2", "back"]


def test_a_verify_that_is_cleared_after_a_later_week_puts_nothing_live(house: House) -> None:
    loaded = house.load(1, "again", by_hand=True)
    house.verify(loaded)
    house.verify(house.load(2, "week 2"))
    with pytest.raises(RegistryError, match=r"found v1\.2"):
        house.verify(loaded)
    assert house.live() == "v1.2"


def test_a_verify_that_is_tried_again_while_its_decision_stands_repeats_nothing(house: House, age: Age) -> None:
    loaded = age(house.load(2, "week 2"))
    assert house.verify(loaded) == house.verify(loaded)
    assert house.decisions() == ["week 0", "week 1", "week 2"]


def test_a_rollback_that_died_before_it_revoked_does_so_when_it_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = house.load(0, "back", action="rollback", by_hand=True)

    def dies(*_: Any, **__: Any) -> None:
        raise StoreError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(type(house.resources.registry), "revoke", dies)
        with pytest.raises(StoreError):
            house.verify(back)
    house.verify(house.load(2, "by hand", by_hand=True))
    with pytest.raises(RegistryError, match=r"found v1\.2"):
        house.verify(back)
    assert house.live() == "v1.2"
    assert house.resources.registry.revoked("v1.1") is not None


def test_the_live_version_that_is_deployed_again_does_not_come_back_after_a_rollback(house: House, age: Age) -> None:
    again = age(house.load(1, "again", by_hand=True))
    house.roll_back()
    with pytest.raises(RegistryError):
        house.verify(again)
    assert house.live() == "v1.0"


def test_what_was_loaded_before_two_deployments_is_refused_where_they_end_as_it_began(house: House) -> None:
    loaded = house.load(2, "week 2")
    house.verify(house.load(0, "a look back", by_hand=True))
    house.verify(house.load(1, "and forth", by_hand=True))
    with pytest.raises(RegistryError, match="another deployment came between"):
        house.verify(loaded)
    assert house.live() == "v1.1"


def test_what_was_revoked_after_it_was_loaded_does_not_go_live(house: House, age: Age) -> None:
    loaded = age(house.load(2, "week 2"))
    house.revoke(2)
    with pytest.raises(RegistryError, match=r"found v1\.2 revoked"):
        house.verify(loaded)
    assert house.live() == "v1.1"


def test_a_cleared_week_does_not_deploy_what_is_live_against_its_revocation(house: House) -> None:
    house.roll_back()
    house.verify(house.load(1, "by hand", by_hand=True, despite=["v1.1"]))
    with pytest.raises(RegistryError, match="revoked"):
        house.load(1, "week 1")
    assert house.decisions()[-1] == "by hand"


def test_a_person_may_put_live_what_was_revoked_and_the_ledger_says_so(house: House) -> None:
    house.roll_back()
    chosen = deploy_step.revoked_of(house.resources, "v1.1")
    made = house.verify(house.load(1, "by hand", by_hand=True, despite=chosen))
    assert (house.live(), made.despite) == ("v1.1", ["v1.1"])


def test_what_a_person_chose_before_it_was_revoked_is_asked_for_anew(house: House) -> None:
    """A deployment by hand that is tried again, with a rollback in between."""
    chosen = deploy_step.revoked_of(house.resources, "v1.1")
    house.roll_back()
    with pytest.raises(RegistryError, match=r"found v1\.1 revoked"):
        house.load(1, "by hand", by_hand=True, despite=chosen)


def test_a_deployment_by_hand_that_is_cleared_from_its_first_task_is_a_new_decision(house: House) -> None:
    house.verify(house.load(2, "by hand", by_hand=True))
    house.roll_back()
    chosen = deploy_step.revoked_of(house.resources, "v1.2")
    house.verify(house.load(2, "by hand", by_hand=True, despite=chosen))
    assert house.live() == "v1.2"
    assert house.decisions()[-3:] == ["by hand", "back", "by hand"]


def test_later_weeks_say_why_a_revoked_version_that_is_live_keeps_them_waiting(house: House) -> None:
    house.roll_back()
    house.verify(house.load(1, "by hand", by_hand=True, despite=["v1.1"]))
    next_week = replace(house.versions[2], version="v1.3", parent="v1.0")
    house.resources.registry._read["v1.3"] = next_week
    decision = deploy_step.may_deploy(house.resources, next_week, force=False)
    assert not decision.deploy
    assert deploy_step.may_deploy(house.resources, house.versions[2], force=False).why == (
        "v1.2 continues v1.1, which was revoked"
    )
    assert decision.why == (
        "the live version v1.1 was revoked, so no later version continues it: "
        "deploy v1.3 by hand, then later versions deploy automatically"
    )
