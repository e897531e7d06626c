"""Replicas that restart, serve something else or are down, and how they are reconciled."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from learning_engine.errors import ProofError, ServingError
from learning_engine.records.contracts import AdapterVersion
from learning_engine.serving import rollout
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import placement
from learning_engine.steps import reconcile as reconcile_step
from learning_engine.steps.resources import ServingPlace
from tests.serving.conftest import ModelServer, model_servers
from tests.steps.conftest import Loop


@dataclass(frozen=True)
class Fleet:
    """Two replicas that serve v1.1, and v1.0 for a rollback; each can lose its adapters as in a restart."""

    loop: Loop
    servers: list[ModelServer]
    versions: list[AdapterVersion]

    def names(self) -> list[str]:
        return [placement.server_name(self.loop.resources, version) for version in self.versions]

    def lose_adapters(self, number: int) -> None:
        """Unload every adapter, as a restart does."""
        replica = self.servers[number].replica
        for name in dict.fromkeys(replica.models()[1:]):
            replica.unload(name)
        assert len(replica.models()) == 1


@pytest.fixture(scope="module")
def servers(base: Path) -> Iterator[list[ModelServer]]:
    # Unloading replaces a slow restart; loading a name again with the same weights is harmless here.
    with model_servers(base, ["--hazards", "none"], ["--hazards", "none"]) as both:
        yield both


@pytest.fixture
def fleet(learned: Loop, servers: list[ModelServer]) -> Fleet:
    for server in servers:
        for name in dict.fromkeys(server.replica.models()[1:]):
            server.replica.unload(name)
    disk = learned.resources.serving.adapter_dir
    place = ServingPlace(tuple(server.url for server in servers), disk, str(disk))
    both = replace(learned, resources=replace(learned.resources, open_serving=lambda: place))
    versions = both.resources.registry.versions()
    for number, version in enumerate(versions):
        both.serve(version, run_id=f"r{number}")
    return Fleet(both, servers, versions)


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.levelno == logging.WARNING]


def test_before_the_first_deployment_there_is_nothing_to_do(loop: Loop) -> None:
    assert reconcile_step.reconcile(loop.resources) == {"live": None, "replicas": {}}


def test_healthy_replicas_are_proven_and_left_unchanged(fleet: Fleet) -> None:
    before = [server.replica.models() for server in fleet.servers]
    found = reconcile_step.reconcile(fleet.loop.resources)
    assert found == {"live": "v1.1", "replicas": {server.url: "proven" for server in fleet.servers}}
    assert [server.replica.models() for server in fleet.servers] == before


def test_a_restarted_replica_loads_both_adapters_again(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    fleet.lose_adapters(1)
    pointer = fleet.loop.resources.ledger.current()
    found = reconcile_step.reconcile(fleet.loop.resources)
    assert list(found["replicas"].values()) == ["proven", "restored"]
    assert sorted(fleet.servers[1].replica.models()[1:]) == sorted(fleet.names())
    live, previous = placement.probes(fleet.loop.resources, fleet.versions[1]), fleet.versions[0]
    assert rollout.prove(fleet.servers[1].replica, fleet.names()[1], live) == len(live) > 0
    assert rollout.prove(fleet.servers[1].replica, fleet.names()[0], placement.probes(fleet.loop.resources, previous))
    assert [one["adapter"] for one in warnings(caplog) if one["event"] == "serving.restored"] == fleet.names()[::-1]
    assert fleet.loop.resources.ledger.current() == pointer
    assert set(reconcile_step.reconcile(fleet.loop.resources)["replicas"].values()) == {"proven"}


def test_adapters_lost_from_the_servers_disk_are_written_again(fleet: Fleet) -> None:
    fleet.lose_adapters(0)
    shutil.rmtree(fleet.loop.resources.serving.adapter_dir)
    assert reconcile_step.reconcile(fleet.loop.resources)["replicas"][fleet.servers[0].url] == "restored"


def test_if_the_archive_is_lost_the_placed_files_are_still_served(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    store = fleet.loop.resources.store
    fleet.lose_adapters(0)
    store.put_bytes(store.key(fleet.versions[1].uri), b"altered at rest")
    assert reconcile_step.reconcile(fleet.loop.resources)["replicas"][fleet.servers[0].url] == "restored"
    (lost,) = [one for one in warnings(caplog) if one["event"] == "reconcile.archive_lost"]
    assert (lost["version"], store.uri("adapters/v1.1/adapter.tar.gz") in lost["message"]) == ("v1.1", True)


def test_a_replica_with_other_weights_under_the_live_name_is_named(fleet: Fleet) -> None:
    """It cannot be repaired from outside, but the other replica is repaired all the same."""
    replica, live, other = fleet.servers[0].replica, fleet.names()[1], fleet.names()[0]
    fleet.lose_adapters(1)
    replica.unload(live)
    replica.load(live, placement.server_path(fleet.loop.resources, other))
    with pytest.raises(ProofError, match=f"{fleet.servers[0].url}: expected the tokens of {live}"):
        reconcile_step.reconcile(fleet.loop.resources)
    assert live in fleet.servers[1].replica.models()


def test_a_replica_that_is_down_is_named_and_the_other_one_repaired(fleet: Fleet) -> None:
    fleet.lose_adapters(1)
    down, disk = "http://127.0.0.1:9", fleet.loop.resources.serving.adapter_dir
    place = ServingPlace((down, fleet.servers[1].url), disk, str(disk))
    resources = replace(fleet.loop.resources, open_serving=lambda: place)
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:9: expected an answer to GET /v1/models") as caught:
        reconcile_step.reconcile(resources)
    assert caught.value.retryable
    assert fleet.names()[1] in fleet.servers[1].replica.models()


def test_a_rollback_target_that_is_lost_does_not_fail_the_live_version(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    store = fleet.loop.resources.store
    fleet.lose_adapters(0)
    store.put_bytes(store.key(fleet.versions[0].uri), b"altered at rest")
    shutil.rmtree(fleet.loop.resources.serving.adapter_dir / fleet.names()[0])
    assert reconcile_step.reconcile(fleet.loop.resources)["replicas"][fleet.servers[0].url] == "restored"
    (lost,) = [one for one in warnings(caplog) if one["event"] == "reconcile.no_way_back"]
    assert lost["version"] == "v1.0"


def test_after_a_rollback_the_older_version_must_be_served(fleet: Fleet) -> None:
    resources = fleet.loop.resources
    fleet.loop.serve(
        deploy_step.choose(resources, action="rollback", version=None), run_id="back", action="rollback", by_hand=True
    )
    fleet.lose_adapters(0)
    assert reconcile_step.reconcile(resources)["live"] == "v1.0"
    assert fleet.names()[0] in fleet.servers[0].replica.models()


def test_adapter_names_come_from_the_ledger_and_not_from_the_configuration(fleet: Fleet) -> None:
    fleet.lose_adapters(0)
    reconcile_step.reconcile(fleet.loop.with_settings(serving={"adapter_prefix": "other-"}).resources)
    assert sorted(fleet.servers[0].replica.models()[1:]) == sorted(fleet.names())


def test_a_version_without_probes_is_reported_as_loaded_and_not_as_proven(fleet: Fleet) -> None:
    """Retention has deleted the prompts: nothing shows whether the server has the right weights."""
    report = fleet.versions[1].report
    assert report.probes is not None
    store = fleet.loop.resources.store
    store.delete([store.key(report.probes.uri)])
    fleet.lose_adapters(1)
    found = reconcile_step.reconcile(fleet.loop.resources)
    assert list(found["replicas"].values()) == ["loaded", "restored"]
    assert set(reconcile_step.reconcile(fleet.loop.resources)["replicas"].values()) == {"loaded"}
