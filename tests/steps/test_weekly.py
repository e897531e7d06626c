"""Weeks of feedback in, versions and deployments out."""

import shutil
from dataclasses import replace

import pytest

from learning_engine.errors import ParentMoved, ProofError, RegistryError, ServingError
from learning_engine.registry import manifest
from learning_engine.serving.client import Replica
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import placement
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from tests.steps.conftest import RUN, Road, week


def test_three_weeks_make_a_chain_that_ends_live(road: Road):
    road.teach(0, 1, 2)
    chain = []
    for number in range(3):
        version = road.learn(week(number))
        assert version.accepted, version.report.rules
        road.serve(version, run_id=str(number))
        chain.append(version)

    assert [(v.version, v.parent) for v in chain] == [("v1.0", None), ("v1.1", "v1.0"), ("v1.2", "v1.1")]
    assert chain[0].fisher.uri is None
    assert "anchor" in chain[0].fisher.note
    assert (chain[1].fisher.guards, chain[1].fisher.accumulated) == ("v1.0", [])
    assert (chain[2].fisher.guards, chain[2].fisher.accumulated) == ("v1.1", ["v1.0"])
    assert set(chain[2].report.scores) == {"v1.0", "v1.1"}
    assert chain[2].training.ewc_loss > 0

    live = road.resources.ledger.current()
    assert live is not None
    assert (live.version, live.previous) == ("v1.2", "v1.1")
    assert live.proven
    replica = Replica(road.resources.serving.replicas[0], road.resources.settings.serving)
    # The base, the live version and the one to roll back to.
    ours = [placement.server_name(road.resources, version) for version in chain]
    assert [name for name in replica.models() if name in ours] == ours[1:]
    assert sorted(path.name.split("-")[0] for path in road.resources.serving.adapter_dir.iterdir()) == ["v1.1", "v1.2"]


def test_the_same_work_again_changes_nothing(road: Road):
    road.teach(0)
    first = road.learn(week(0))
    keys = sorted(item.key for item in road.resources.store.list(""))
    assert road.learn(week(0)) == first
    assert sorted(item.key for item in road.resources.store.list("")) == keys


def test_a_thin_week_is_carried_over_and_an_explicit_window_is_not_widened(road: Road):
    road.teach(0, 2)
    road.teach(1, count=3)
    road.learn(week(0))
    assert extract_step.extract(road.resources, week(1), widen=True).rows == 3
    widened = extract_step.extract(road.resources, week(2), widen=True)
    assert (widened.window.start, widened.rows) == (week(1).start, 43)
    assert extract_step.extract(road.resources, week(2), widen=False).window == week(2)


def test_a_rejected_candidate_is_published_with_its_verdict_and_has_no_children(road: Road):
    road.teach(0, 1, 2)
    road.learn(week(0))
    strict = road.with_settings(gate={"epsilon": 0.0, "max_kl_parent": 0.0})
    rejected = strict.learn(week(1))
    assert not rejected.accepted
    assert "drift" in [rule.name for rule in rejected.report.rules if not rule.passed]
    assert not deploy_step.may_deploy(strict.resources, rejected, force=False).deploy
    assert deploy_step.may_deploy(strict.resources, rejected, force=True).deploy
    third = road.learn(week(2))
    assert (third.version, third.parent) == ("v1.2", "v1.0")
    assert third.window.start == week(1).start


def test_publishing_refuses_a_candidate_whose_parent_is_outdated(road: Road):
    road.teach(0, 1)
    r = road.resources
    dataset = extract_step.extract(r, week(1), widen=False)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    report = evaluate_step.evaluate(r, dataset, candidate)
    road.learn(week(0))
    with pytest.raises(ParentMoved, match=r"v1\.0"):
        publish_step.publish(r, dataset, candidate, report, run=RUN)


def test_a_version_keeps_its_verdict_whatever_a_later_gate_says(road: Road):
    road.teach(0)
    r = road.resources
    rejecting = road.with_settings(gate={"max_kl_parent": 0.0})
    dataset = extract_step.extract(rejecting.resources, week(0), widen=True)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    rejected = evaluate_step.evaluate(rejecting.resources, dataset, candidate)
    publish_step.publish(r, dataset, candidate, rejected, run=RUN)
    with pytest.raises(RegistryError, match="immutable"):
        publish_step.publish(r, dataset, candidate, evaluate_step.evaluate(r, dataset, candidate), run=RUN)


def test_a_server_with_other_weights_under_the_name_moves_no_pointer(road: Road):
    road.teach(0, 1, count=31)  # rows of its own: the server keeps what a name once meant
    first, second = (road.learn(week(number)) for number in range(2))
    served = road.serve(first)
    name = manifest.server_name(second.version, second.sha256)
    replica = Replica(road.resources.serving.replicas[0], road.resources.settings.serving)
    replica.load(name, str(road.resources.serving.adapter_dir / served.adapter_name))
    with pytest.raises(ProofError, match="other weights"):
        road.serve(second, run_id="second")
    assert road.resources.ledger.current() == served


def test_a_server_that_refuses_the_path_moves_no_pointer(road: Road):
    road.teach(0, count=32)
    place = replace(road.resources.serving, server_adapter_dir="/not/mounted")
    misled = replace(road, resources=replace(road.resources, open_serving=lambda: place))
    with pytest.raises(ServingError, match="400"):
        misled.serve(road.learn(week(0)))
    assert road.resources.ledger.current() is None


def test_deploy_never_publishes_only(road: Road):
    road.teach(0)
    version = road.learn(week(0))
    never = replace(road.resources, settings=road.resources.settings.model_copy(update={"deploy": "never"}))
    decision = deploy_step.may_deploy(never, version, force=True)
    assert (decision.deploy, "never" in decision.why) == (False, True)


def test_rollback_returns_to_the_version_before_and_revokes_the_one_it_leaves(learned: Road):
    road = learned
    for number, version in enumerate(road.resources.registry.versions()):
        road.serve(version, run_id=str(number))
    road.teach(2)
    target = deploy_step.choose(road.resources, action="rollback", version="v1.1")
    assert target.version == "v1.0"
    with pytest.raises(RegistryError, match=r"Expected v1\.0, which .* to be live, found v1\.1"):
        deploy_step.choose(road.resources, action="rollback", version="v1.0")
    done = road.serve(target, run_id="back", action="rollback", by_hand=True)
    assert (done.version, done.previous, done.action) == ("v1.0", "v1.1", "rollback")
    revocation = road.resources.registry.revoked("v1.1")
    assert revocation is not None
    assert "v1.0" in revocation.reason
    after = road.learn(week(2))
    assert after.parent == "v1.0"
    with pytest.raises(RegistryError, match="roll back"):
        deploy_step.choose(road.resources, action="rollback", version=None)


def test_a_rollback_from_an_ancestor_leaves_the_chain_whole(learned: Road):
    road = learned
    versions = road.resources.registry.versions()
    first, second = (road.serve(version, run_id=version.version).version for version in versions)
    road.teach(2)
    road.serve(road.resources.registry.get(str(first)), run_id="a look back", by_hand=True)
    target = deploy_step.choose(road.resources, action="rollback", version=None)
    done = road.serve(target, run_id="back", action="rollback", by_hand=True)
    assert (done.version, done.previous) == (second, first)
    assert road.resources.registry.revoked(str(first)) is None, "what is live again continues it"
    after = road.learn(week(2))
    assert after.parent == second
    assert deploy_step.may_deploy(road.resources, after, force=False).deploy


def test_deploying_the_live_version_again_gives_a_restarted_replica_its_adapter_back(learned: Road):
    road = learned
    for number, version in enumerate(road.resources.registry.versions()):
        live = road.serve(version, run_id=str(number))
    replica = Replica(road.resources.serving.replicas[0], road.resources.settings.serving)
    replica.unload(live.adapter_name)
    again = road.serve(road.resources.registry.get("v1.1"), run_id="again", by_hand=True)
    assert (again.version, again.previous) == ("v1.1", "v1.0")
    assert {live.adapter_name, live.previous_adapter_name} <= set(replica.models())


def test_only_a_descendant_of_the_live_version_goes_live_by_itself(road: Road):
    road.teach(0, 1)
    live = road.learn(week(0))
    road.serve(live)
    assert deploy_step.may_deploy(road.resources, live, force=False).why == "v1.0 is live already"
    stranger = road.with_settings(training={"seed": 5}).learn(week(0))
    assert stranger.parent is None
    decision = deploy_step.may_deploy(road.resources, stranger, force=False)
    assert not decision.deploy
    assert "does not descend" in decision.why
    with pytest.raises(RegistryError, match="does not descend"):
        road.serve(stranger)
    assert road.serve(stranger, run_id="hand", by_hand=True).version == stranger.version


def test_thin_weeks_add_up_before_there_is_a_first_version(road: Road):
    road.teach(0, count=6)
    road.teach(1, count=6)
    thin = extract_step.extract(road.resources, week(0), widen=True)
    assert thin.rows == 6 < road.resources.settings.feedback.min_samples
    together = extract_step.extract(road.resources, week(1), widen=True)
    assert together.rows == 12
    assert together.asked == week(1)
    assert extract_step.extract(road.resources, week(1), widen=False).rows == 6


def test_what_was_rejected_before_the_first_accepted_version_is_not_lost(road: Road):
    road.teach(0, 1)
    rejected = road.with_settings(gate={"max_kl_parent": 0.0}).learn(week(0))
    assert not rejected.accepted
    assert extract_step.extract(road.resources, week(1), widen=True).window.start == week(0).start


def test_a_widened_window_sees_a_parent_that_was_published_meanwhile(road: Road):
    road.teach(0, 1, 2)
    road.learn(week(0))
    r = road.resources
    dataset = extract_step.extract(r, week(2), widen=True)
    assert (dataset.parent, dataset.window.start) == ("v1.0", week(1).start)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    report = evaluate_step.evaluate(r, dataset, candidate)
    assert road.learn(week(1)).version == "v1.1"
    with pytest.raises(ParentMoved, match=r"v1\.1"):
        publish_step.publish(r, dataset, candidate, report, run=RUN)


def test_what_continues_a_revoked_version_is_no_parent_and_never_goes_live_by_itself(learned: Road):
    road = learned
    road.teach(2, 3)
    first, second = road.resources.registry.versions()
    road.serve(first)
    third = road.learn(week(2))
    assert third.parent == second.version
    road.resources.registry.revoke(second.version, by="ada", reason="it lies")
    decision = deploy_step.may_deploy(road.resources, third, force=False)
    assert (decision.deploy, second.version in decision.why) == (False, True)
    assert extract_step.extract(road.resources, week(3), widen=False).parent == first.version


def test_verify_refuses_when_another_deployment_came_between(learned: Road):
    road = learned
    first, second = road.resources.registry.versions()
    loaded = deploy_step.deploy(road.resources, first, run=replace(RUN, run_id="slow"), decided_by="the gate")
    road.serve(second, run_id="quick", by_hand=True)
    with pytest.raises(RegistryError, match="another deployment came between"):
        deploy_step.verify(road.resources, loaded)
    live = road.resources.ledger.current()
    assert live is not None
    assert live.version == second.version


def test_verify_loads_again_what_a_server_has_lost_meanwhile(road: Road):
    road.teach(0)
    loaded = deploy_step.deploy(road.resources, road.learn(week(0)), run=RUN, decided_by="the gate")
    replica = Replica(road.resources.serving.replicas[0], road.resources.settings.serving)
    replica.unload(loaded.adapter_name)
    shutil.rmtree(road.resources.serving.adapter_dir / loaded.adapter_name)
    deploy_step.verify(road.resources, loaded)
    assert replica.models().count(loaded.adapter_name) == 1
    live = road.resources.ledger.current()
    assert live is not None
    assert live.adapter_name == loaded.adapter_name
