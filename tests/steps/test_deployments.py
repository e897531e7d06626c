"""Which version goes live, by whom, and what a model server's faults change about it."""

import shutil
from dataclasses import replace

import pytest

from learning_engine.errors import ProofError, RegistryError, ServingError
from learning_engine.registry import manifest
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import deploy as deploy_step
from tests.steps.conftest import RUN, Loop, week


@pytest.mark.stack
def test_a_server_with_other_weights_under_the_name_moves_no_pointer(loop: Loop):
    loop.teach(0, 1, count=31)  # unique rows give unique names: the server remembers a name's weights
    first, second = (loop.learn(week(number)) for number in range(2))
    served = loop.serve(first)
    name = manifest.server_name(second.version, second.sha256)
    replica = loop.replica
    replica.load(name, str(loop.resources.serving.adapter_dir / served.adapter_name))
    with pytest.raises(ProofError, match="other weights"):
        loop.serve(second, run_id="second")
    assert loop.resources.ledger.current() == served


def test_a_server_that_refuses_the_path_moves_no_pointer(loop: Loop):
    loop.teach(0, count=32)
    place = replace(loop.resources.serving, server_adapter_dir="/not/mounted")
    misled = replace(loop, resources=replace(loop.resources, open_serving=lambda: place))
    with pytest.raises(ServingError, match="400"):
        misled.serve(loop.learn(week(0)))
    assert loop.resources.ledger.current() is None


def test_deploy_never_publishes_only(begun: Loop):
    loop = begun
    (version,) = loop.resources.registry.versions()
    never = replace(loop.resources, settings=loop.resources.settings.model_copy(update={"deploy": "never"}))
    decision = accepted_step.may_deploy(never, version, force=True)
    assert (decision.deploy, "never" in decision.why) == (False, True)


def test_rollback_returns_to_the_version_before_and_revokes_the_replaced_one(learned: Loop):
    loop = learned
    for number, version in enumerate(loop.resources.registry.versions()):
        loop.serve(version, run_id=str(number))
    loop.teach(2)
    target = deploy_step.choose(loop.resources, action="rollback", version="v1.1")
    assert target.version == "v1.0"
    with pytest.raises(RegistryError, match=r"Expected v1\.0, which .* to be live, found v1\.1"):
        deploy_step.choose(loop.resources, action="rollback", version="v1.0")
    done = loop.serve(target, run_id="back", action="rollback", by_hand=True)
    assert (done.version, done.previous, done.action) == ("v1.0", "v1.1", "rollback")
    revocation = loop.resources.registry.revoked("v1.1")
    assert revocation is not None
    assert "v1.0" in revocation.reason
    after = loop.learn(week(2))
    assert after.parent == "v1.0"
    with pytest.raises(RegistryError, match="roll back"):
        deploy_step.choose(loop.resources, action="rollback", version=None)


def test_a_rollback_from_an_ancestor_does_not_break_the_chain(learned: Loop):
    loop = learned
    versions = loop.resources.registry.versions()
    first, second = (loop.serve(version, run_id=version.version).version for version in versions)
    loop.teach(2)
    loop.serve(loop.resources.registry.get(str(first)), run_id="a look back", by_hand=True)
    target = deploy_step.choose(loop.resources, action="rollback", version=None)
    done = loop.serve(target, run_id="back", action="rollback", by_hand=True)
    assert (done.version, done.previous) == (second, first)
    assert loop.resources.registry.revoked(str(first)) is None, "what is live again continues it"
    after = loop.learn(week(2))
    assert after.parent == second
    assert accepted_step.may_deploy(loop.resources, after, force=False).deploy


def test_redeploying_the_live_version_restores_a_restarted_replica(learned: Loop):
    loop = learned
    for number, version in enumerate(loop.resources.registry.versions()):
        live = loop.serve(version, run_id=str(number))
    replica = loop.replica
    replica.unload(live.adapter_name)
    again = loop.serve(loop.resources.registry.get("v1.1"), run_id="again", by_hand=True)
    assert (again.version, again.previous) == ("v1.1", "v1.0")
    assert {live.adapter_name, live.previous_adapter_name} <= set(replica.models())


def test_only_a_descendant_of_the_live_version_is_deployed_automatically(begun: Loop):
    loop = begun
    loop.teach(1)
    (live,) = loop.resources.registry.versions()
    loop.serve(live)
    assert accepted_step.may_deploy(loop.resources, live, force=False).why == "v1.0 is already live"
    stranger = loop.with_settings(training={"seed": 5}).learn(week(0))
    assert stranger.parent is None
    decision = accepted_step.may_deploy(loop.resources, stranger, force=False)
    assert not decision.deploy
    assert "does not descend" in decision.why
    with pytest.raises(RegistryError, match="does not descend"):
        loop.serve(stranger)
    assert loop.serve(stranger, run_id="hand", by_hand=True).version == stranger.version


def test_verify_refuses_when_another_deployment_came_between(learned: Loop):
    loop = learned
    first, second = loop.resources.registry.versions()
    loaded = deploy_step.deploy(loop.resources, first, run=replace(RUN, run_id="slow"), decided_by="the gate")
    loop.serve(second, run_id="quick", by_hand=True)
    with pytest.raises(RegistryError, match="another deployment happened meanwhile"):
        deploy_step.verify(loop.resources, loaded)
    live = loop.resources.ledger.current()
    assert live is not None
    assert live.version == second.version


def test_verify_reloads_an_adapter_that_a_server_has_lost(begun: Loop):
    loop = begun
    (version,) = loop.resources.registry.versions()
    loaded = deploy_step.deploy(loop.resources, version, run=RUN, decided_by="the gate")
    replica = loop.replica
    replica.unload(loaded.adapter_name)
    shutil.rmtree(loop.resources.serving.adapter_dir / loaded.adapter_name)
    deploy_step.verify(loop.resources, loaded)
    assert replica.models().count(loaded.adapter_name) == 1
    live = loop.resources.ledger.current()
    assert live is not None
    assert live.adapter_name == loaded.adapter_name
