"""Whole weekly runs: weeks of feedback become versions and deployments."""

import pytest

from learning_engine.errors import ParentMoved, RegistryError
from learning_engine.steps import accepted as accepted_step
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
    replica = loop.replica
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


def test_thin_weeks_add_up_before_there_is_a_first_version(loop: Loop):
    loop.teach(0, count=6)
    loop.teach(1, count=6)
    thin = extract_step.extract(loop.resources, week(0), widen=True)
    assert thin.rows == 6 < loop.resources.settings.feedback.min_samples
    together = extract_step.extract(loop.resources, week(1), widen=True)
    assert together.rows == 12
    assert together.asked == week(1)
    assert extract_step.extract(loop.resources, week(1), widen=False).rows == 6


def test_weeks_that_the_gate_could_not_judge_add_up_before_there_is_a_first_version(loop: Loop):
    loop.teach(0, 1)
    strict = loop.with_settings(gate={"min_heldout": 12}).resources
    alone = extract_step.extract(strict, week(1), widen=False)
    assert alone.rows == 40 > strict.settings.feedback.min_samples
    assert alone.heldout < 12
    together = extract_step.extract(strict, week(1), widen=True)
    assert together.rows == 80
    assert together.heldout >= 12
    assert extract_step.extract(loop.resources, week(1), widen=True).rows == 40, "enough as it is"


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
