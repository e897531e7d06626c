"""Missing or modified objects in the bucket are detected before use, named, and worked around."""

import json
import logging
from typing import Any

import pytest

from learning_engine.errors import IntegrityError, ParentMoved
from learning_engine.records.contracts import Window
from learning_engine.registry import manifest
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import maintain as maintain_step
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from tests.steps.conftest import RUN, Loop, week


@pytest.fixture
def live(learned: Loop) -> Loop:
    """v1.0, the live v1.1, and the feedback of a third week."""
    learned.teach(2)
    for number, version in enumerate(learned.resources.registry.versions()):
        learned.serve(version, run_id=f"r{number}")
    return learned


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Any:
    """The names of the warnings so far."""
    return lambda: [json.loads(one.getMessage())["event"] for one in caplog.records if one.levelno == logging.WARNING]


def alter(loop: Loop, key: str, *, lost: bool = False) -> bytes:
    """Cut the object short while keeping its recorded digest, or delete it if `lost`; returns the original bytes."""
    store = loop.resources.store
    before, described = store.get_bytes(key), store.head(key)
    if lost:
        store.delete([key])
    else:
        at = {"Bucket": store.bucket, "Key": store.prefix + key}
        cut = before[: len(before) // 2]
        store.client.put_object(**at, Body=cut, Metadata={"sha256": described.sha256})
    return before


@pytest.mark.parametrize("lost", [False, pytest.param(True, marks=pytest.mark.stack)], ids=["altered", "lost"])
def test_the_nearest_readable_ancestor_is_continued_and_the_lost_week_learned_again(
    live: Loop, warned: Any, lost: bool
) -> None:
    alter(live, "adapters/v1.1/adapter.tar.gz", lost=lost)
    version = live.learn(week(2))
    assert (version.parent, version.dataset.passed_over) == ("v1.0", ["v1.1"])
    assert version.window == Window(week(1).start, week(2).end), "what v1.1 had learned"
    assert warned().count("registry.unreadable") == 2, "when it was extracted, and when it was published"
    assert version.report.notes[0] == (
        "The archive of v1.1 is missing or corrupt: this version continues v1.0, but is still judged on what v1.1 had "
        "learned."
    )
    assert {"v1.0", "v1.1"} == set(version.report.scores) == set(version.report.matrix)
    decision = accepted_step.may_deploy(live.resources, version, force=False)
    assert (decision.deploy, decision.why) == (
        True,
        "it replaces the live version v1.1, whose archive cannot be read",
    )
    deployed = live.serve(version, run_id="r2")
    assert (deployed.version, deployed.previous, deployed.proven) == ("v1.2", "v1.1", True)


def test_a_candidate_that_falls_behind_the_live_version_is_rejected(live: Loop) -> None:
    """It continues an older version, but the gate judges it on what the live version had learned."""
    alter(live, "adapters/v1.1/adapter.tar.gz")
    strict = live.with_settings(gate={"min_retained": 0.999}, training={"epochs": 1.0, "learning_rate": 1e-6})
    version = strict.learn(week(2), widen=False)
    (rule,) = [rule for rule in version.report.rules if rule.name == "retained"]
    assert not rule.passed
    assert version.report.retained["v1.1"] < 0.999
    assert not accepted_step.may_deploy(live.resources, version, force=False).deploy


def test_without_a_readable_ancestor_it_starts_from_the_base_model(live: Loop) -> None:
    for name in ("v1.0", "v1.1"):
        alter(live, f"adapters/{name}/adapter.tar.gz")
    dataset = extract_step.extract(live.resources, week(2), widen=False)
    assert (dataset.parent, dataset.passed_over) == (None, ["v1.1", "v1.0"])


def test_an_archive_that_is_restored_meanwhile_is_the_parent_again(live: Loop) -> None:
    key = "adapters/v1.1/adapter.tar.gz"
    whole, r = alter(live, key), live.resources
    dataset = extract_step.extract(r, week(2), widen=True)
    candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
    report = evaluate_step.evaluate(r, dataset, candidate)
    r.store.put_bytes(key, whole)
    with pytest.raises(ParentMoved, match=r"Expected v1\.1 as the parent"):
        publish_step.publish(r, dataset, candidate, report, run=RUN)
    assert extract_step.extract(r, week(2), widen=True).parent == "v1.1"


def test_the_live_version_is_never_served_from_a_modified_archive(live: Loop) -> None:
    version = live.resources.registry.get("v1.1")
    alter(live, "adapters/v1.1/adapter.tar.gz")
    with pytest.raises(IntegrityError, match=r"adapters/v1\.1/adapter\.tar\.gz: expected sha256"):
        live.serve(version, run_id="again", by_hand=True)
    with pytest.raises(IntegrityError, match=r"adapters/v1\.1/adapter\.tar\.gz"):
        maintain_step.audit(live.resources)


@pytest.mark.stack
def test_a_modified_candidate_is_trained_again(live: Loop, warned: Any) -> None:
    r = live.resources
    dataset = extract_step.extract(r, week(2), widen=False)
    fisher = fisher_step.fisher(r, dataset)
    first = train_step.train(r, dataset, fisher)
    for name in ("adapter.tar.gz", "candidate.json"):
        alter(live, manifest.run_key(dataset.run_key, name))
        again = train_step.train(r, dataset, fisher)
        assert again.sha256 == first.sha256
        assert r.store.digest(r.store.key(again.uri)) == again.sha256
    assert warned().count("train.candidate_altered") == 2


@pytest.mark.stack
def test_modified_fisher_information_is_measured_again(live: Loop, warned: Any) -> None:
    r = live.resources
    dataset = extract_step.extract(r, week(2), widen=False)
    first = fisher_step.fisher(r, dataset)
    alter(live, r.store.key(str(first.uri)))
    assert fisher_step.fisher(r, dataset) == first
    alter(live, manifest.fisher_key("v1.1", manifest.FISHER_RECORD))
    assert fisher_step.fisher(r, dataset) == first
    assert r.store.digest(r.store.key(str(first.uri))) == first.sha256
    assert (warned().count("fisher.altered"), warned().count("fisher.record_altered")) == (1, 1)


@pytest.mark.stack
def test_a_modified_heldout_set_is_named_in_the_report(live: Loop) -> None:
    alter(live, "heldout/v1.0/heldout.parquet")
    version = live.learn(week(2))
    assert "The held-out set of v1.0 is gone: its window is not judged." in version.report.notes
    assert set(version.report.scores) == {"v1.1"}


def test_a_modified_snapshot_is_read_again_from_the_source(live: Loop) -> None:
    r = live.resources
    first = fisher_step.fisher_of(r, "v1.0", window=None)
    alter(live, r.store.key(r.registry.get("v1.0").dataset.uri))
    again = fisher_step.fisher_of(r, "v1.0", window=None)
    assert (again.sha256, again.note) == (
        first.sha256,
        "the snapshot was missing or corrupt; its window was read again from the source",
    )
