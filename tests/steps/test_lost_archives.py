"""The archives of the live version and of its ancestors are lost or modified: which version the next one continues.

That a modified object is detected, whichever it is, is proven in tests/faults/test_modified_objects.
"""

import json
import logging
from typing import Any

import pytest

from learning_engine.errors import ParentMoved
from learning_engine.records.contracts import Window
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
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
