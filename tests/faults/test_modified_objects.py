"""Objects modified in the bucket are detected before they are used: the step, or the audit, fails and names them.

test_replaceable_objects has those that a step makes again or does without. Which version a week continues when archives
are lost is in tests/steps/test_lost_archives.
"""

from dataclasses import dataclass

import pytest

from learning_engine.errors import IntegrityError, LearningEngineError
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import maintain as maintain_step
from tests.faults.harms import HARMS, Harm, Key, always, another_schema, cut_short, fisher_file, modify, of_run, one_bit
from tests.faults.weeks import RUN_OF_WEEK, STEPS, Weeks


@dataclass(frozen=True)
class Case:
    """The modified object, and the step that reads it."""

    name: str
    step: str
    key: Key
    # Whether another record also holds its digest, besides its own metadata.
    recorded: bool = True

    def __str__(self) -> str:
        return f"{self.name}, {self.step}"


CASES = [
    Case("the parent's archive", "fisher", always("adapters/v1.1/adapter.tar.gz")),
    Case("the parent's archive", "train", always("adapters/v1.1/adapter.tar.gz")),
    Case("the parent's archive", "evaluate", always("adapters/v1.1/adapter.tar.gz")),
    Case("the snapshot", "train", of_run("dataset.parquet")),
    Case("the snapshot", "evaluate", of_run("dataset.parquet")),
    Case("the Fisher information", "train", fisher_file),
    Case("the candidate", "evaluate", of_run("adapter.tar.gz")),
    Case("the candidate", "publish", of_run("adapter.tar.gz")),
    Case("the staged held-out rows", "publish", of_run("heldout.parquet"), recorded=False),
    Case("the staged probes", "publish", of_run("probes.json")),
    Case("the archive", "deploy", always("adapters/v1.2/adapter.tar.gz")),
    Case("the probes", "deploy", always("adapters/v1.2/probes.json")),
    Case("the probes", "verify", always("adapters/v1.2/probes.json")),
]


def refused(weeks: Weeks, step: str, *named: str) -> LearningEngineError:
    """The step fails with a non-retryable error that names the object, and neither publishes nor deploys."""
    resources = weeks.loop().resources
    with pytest.raises(IntegrityError) as caught:
        STEPS[step](weeks, resources)
    assert not caught.value.retryable
    for part in named:
        assert part in str(caught.value)
    listing = {stored.key for stored in weeks.store.list()}
    assert ("adapters/v1.2/metadata.json" in listing) == (step in ("deploy", "verify"))
    assert sum(key.startswith(manifest.LEDGER) for key in listing) == 2
    loaded = weeks.server.replica.models()
    assert loaded.count(weeks.name) == (step == "verify")
    return caught.value


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_modified_bytes_are_detected_before_use(weeks: Weeks, case: Case, harm: Harm) -> None:
    weeks.back_to(weeks.before[case.step])
    key = case.key(weeks)
    modify(weeks, key, harm)
    error = refused(weeks, case.step, "expected sha256", key.rpartition("/")[2])
    assert isinstance(error, IntegrityError)
    if case.recorded:
        weeks.back_to(weeks.before[case.step])
        modify(weeks, key, harm, forget=True)
        refused(weeks, case.step, "expected sha256", key.rpartition("/")[2])


NEWEST = "the newest ledger entry"
RECORDS = [
    ("adapters/v1.1/metadata.json", "extract"),
    ("adapters/v1.1/metadata.json", "publish"),
    ("adapters/v1.2/metadata.json", "verify"),
    (NEWEST, "deploy"),
    (NEWEST, "verify"),
]


@pytest.mark.parametrize(("key", "step"), RECORDS)
def test_a_modified_record_stops_the_step(weeks: Weeks, key: str, step: str) -> None:
    """It is detected by its digest or, if that is lost, by its content."""
    weeks.back_to(weeks.before[step])
    if key == NEWEST:
        key = max(stored.key for stored in weeks.store.list(manifest.LEDGER))
    original = weeks.store.get_bytes(key)
    for harm, forget, named in (
        (one_bit, False, ("expected sha256", key)),
        (cut_short, False, ("expected sha256", key)),
        (cut_short, True, ("Expected JSON", key)),
        (another_schema, True, ("of schema 99", key)),
    ):
        modify(weeks, key, harm, forget=forget)
        refused(weeks, step, *named)
        weeks.store.put_bytes(key, original)
    assert STEPS[step](weeks, weeks.loop().resources)


@pytest.mark.parametrize("step", ["train", "evaluate", "publish"])
def test_the_error_for_missing_staging_names_the_step_to_clear(weeks: Weeks, step: str) -> None:
    weeks.back_to(weeks.before[step])
    weeks.store.delete([stored.key for stored in weeks.store.list(manifest.RUNS)])
    with pytest.raises(NotFound, match=r"runs/.*there is no such object.*clear the run from `extract`") as caught:
        STEPS[step](weeks, weeks.loop().resources)
    assert not caught.value.retryable


def test_the_audit_names_all_modified_objects(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["verify"])
    keys = [
        "adapters/v1.0/adapter.tar.gz",
        "adapters/v1.2/README.md",
        "adapters/v1.2/probes.json",
        "heldout/v1.0/heldout.parquet",
        fisher_file(weeks),
    ]
    for key in keys:
        modify(weeks, key, one_bit)
    with pytest.raises(IntegrityError, match="found 5 that are not") as caught:
        maintain_step.audit(weeks.loop().resources)
    assert all(key in str(caught.value) for key in keys)


def test_a_modified_rollback_target_leaves_the_live_version(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["extract"])
    modify(weeks, "adapters/v1.0/adapter.tar.gz", one_bit)
    resources = weeks.loop().resources
    before = resources.ledger.current()
    with pytest.raises(IntegrityError, match=r"adapters/v1\.0/adapter\.tar\.gz: expected sha256"):
        deploy_step.deploy(
            resources,
            resources.registry.get("v1.0"),
            run=RUN_OF_WEEK,
            decided_by="ada",
            action="rollback",
            by_hand=True,
        )
    assert weeks.loop().resources.ledger.current() == before
