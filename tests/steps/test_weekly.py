"""Whole weekly runs: weeks of feedback become versions and deployments."""

import shutil
from dataclasses import replace

import pytest

from learning_engine.errors import ParentMoved, ProofError, RegistryError, ServingError
from learning_engine.registry import manifest
from learning_engine.serving.client import Replica
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import placement
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from tests.steps.conftest import RUN, Loop, week


def test_three_weeks_give_a_chain_whose_last_version_is_live(loop: Loop):
    loop.teach(0, 1, 2)
    chain = []
    for number in range(3):
        version = loop.learn(week(number))
        assert version.accepted, version.report.rules
        loop.serve(version, run_id=str(number))
        chain.append(version)

    assert [(v.version, v.parent) for v in chain] == [("v1.0", None), ("v1.1", "v1.0"), ("v1.2", "v1.1")]
    assert chain[0].fisher.uri is None
    assert "anchor" in chain[0].fisher.note
    assert (chain[1].fisher.guards, chain[1].fisher.accumulated) == ("v1.0", [])
    assert (chain[2].fisher.guards, chain[2].fisher.accumulated) == ("v1.1", ["v1.0"])
    assert set(chain[2].report.scores) == {"v1.0", "v1.1"}
    assert chain[2].training.ewc_loss > 0

    live = loop.resources.ledger.current()
    assert live is not None
    assert (live.version, live.previous) == ("v1.2", "v1.1")
    assert live.proven
    replica = Replica(loop.resources.serving.replicas[0], loop.resources.settings.serving)
    # Only the live version and the one to roll back to are still loaded.
    ours = [placement.server_name(loop.resources, version) for version in chain]
    assert [name for name in replica.models() if name in ours] == ours[1:]
    assert sorted(path.name.split("-")[0] for path in loop.resources.serving.adapter_dir.iterdir()) == ["v1.1", "v1.2"]


def test_repeating_the_same_work_changes_nothing(begun: Loop):
    loop = begun
    (first,) = loop.resources.registry.versions()
    keys = sorted(item.key for item in loop.resources.store.list(""))
    assert loop.learn(week(0)) == first
    assert sorted(item.key for item in loop.resources.store.list("")) == keys


def test_a_thin_week_is_carried_over_and_an_explicit_window_is_not_widened(begun: Loop):
    loop = begun
    loop.teach(2)
    loop.teach(1, count=3)
    assert extract_step.extract(loop.resources, week(1), widen=True).rows == 3
    widened = extract_step.extract(loop.resources, week(2), widen=True)
    assert (widened.window.start, widened.rows) == (week(1).start, 43)
    assert extract_step.extract(loop.resources, week(2), widen=False).window == week(2)


def test_a_rejected_candidate_is_published_with_its_verdict_and_has_no_children(begun: Loop):
    loop = begun
    loop.teach(1, 2)
    strict = loop.with_settings(gate={"epsilon": 0.0, "max_kl_parent": 0.0})
    rejected = strict.learn(week(1))
    assert not rejected.accepted
    assert "drift" in [rule.name for rule in rejected.report.rules if not rule.passed]
    assert not accepted_step.may_deploy(strict.resources, rejected, force=False).deploy
    assert accepted_step.may_deploy(strict.resources, rejected, force=True).deploy
    third = loop.learn(week(2))
    assert (third.version, third.parent) == ("v1.2", "v1.0")
    assert third.window.start == week(1).start


def test_publishing_refuses_a_candidate_whose_parent_is_outdated(loop: Loop):
    loop.teach(0, 1)
    r = loop.resources
    dataset = extract_step.extract(r, week(1), widen=False)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    report = evaluate_step.evaluate(r, dataset, candidate)
    loop.learn(week(0))
    with pytest.raises(ParentMoved, match=r"v1\.0"):
        publish_step.publish(r, dataset, candidate, report, run=RUN)


def test_a_version_keeps_its_verdict_under_a_later_gate(loop: Loop):
    loop.teach(0)
    r = loop.resources
    rejecting = loop.with_settings(gate={"max_kl_parent": 0.0})
    dataset = extract_step.extract(rejecting.resources, week(0), widen=True)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    rejected = evaluate_step.evaluate(rejecting.resources, dataset, candidate)
    publish_step.publish(r, dataset, candidate, rejected, run=RUN)
    with pytest.raises(RegistryError, match="immutable"):
        publish_step.publish(r, dataset, candidate, evaluate_step.evaluate(r, dataset, candidate), run=RUN)


@pytest.mark.stack
def test_a_server_with_other_weights_under_the_name_moves_no_pointer(loop: Loop):
    loop.teach(0, 1, count=31)  # unique rows give unique names: the server remembers a name's weights
    first, second = (loop.learn(week(number)) for number in range(2))
    served = loop.serve(first)
    name = manifest.server_name(second.version, second.sha256)
    replica = Replica(loop.resources.serving.replicas[0], loop.resources.settings.serving)
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
    replica = Replica(loop.resources.serving.replicas[0], loop.resources.settings.serving)
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


def test_thin_weeks_add_up_before_there_is_a_first_version(loop: Loop):
    loop.teach(0, count=6)
    loop.teach(1, count=6)
    thin = extract_step.extract(loop.resources, week(0), widen=True)
    assert thin.rows == 6 < loop.resources.settings.feedback.min_samples
    together = extract_step.extract(loop.resources, week(1), widen=True)
    assert together.rows == 12
    assert together.asked == week(1)
    assert extract_step.extract(loop.resources, week(1), widen=False).rows == 6


def test_feedback_rejected_before_the_first_accepted_version_is_not_lost(loop: Loop):
    loop.teach(0, 1)
    rejected = loop.with_settings(gate={"max_kl_parent": 0.0}).learn(week(0))
    assert not rejected.accepted
    assert extract_step.extract(loop.resources, week(1), widen=True).window.start == week(0).start


@pytest.mark.stack
def test_a_widened_window_sees_a_parent_that_was_published_meanwhile(begun: Loop):
    loop = begun
    loop.teach(1, 2)
    r = loop.resources
    dataset = extract_step.extract(r, week(2), widen=True)
    assert (dataset.parent, dataset.window.start) == ("v1.0", week(1).start)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    report = evaluate_step.evaluate(r, dataset, candidate)
    assert loop.learn(week(1)).version == "v1.1"
    with pytest.raises(ParentMoved, match=r"v1\.1"):
        publish_step.publish(r, dataset, candidate, report, run=RUN)


def test_a_descendant_of_a_revoked_version_is_no_parent_and_never_deployed_automatically(learned: Loop):
    loop = learned
    loop.teach(2, 3)
    first, second = loop.resources.registry.versions()
    loop.serve(first)
    third = loop.learn(week(2))
    assert third.parent == second.version
    loop.resources.registry.revoke(second.version, by="ada", reason="it lies")
    decision = accepted_step.may_deploy(loop.resources, third, force=False)
    assert (decision.deploy, second.version in decision.why) == (False, True)
    assert extract_step.extract(loop.resources, week(3), widen=False).parent == first.version


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
    replica = Replica(loop.resources.serving.replicas[0], loop.resources.settings.serving)
    replica.unload(loaded.adapter_name)
    shutil.rmtree(loop.resources.serving.adapter_dir / loaded.adapter_name)
    deploy_step.verify(loop.resources, loaded)
    assert replica.models().count(loaded.adapter_name) == 1
    live = loop.resources.ledger.current()
    assert live is not None
    assert live.adapter_name == loaded.adapter_name
