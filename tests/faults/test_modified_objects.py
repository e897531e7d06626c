"""Objects modified in the bucket by others are detected and named before they are used."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from learning_engine.errors import IntegrityError, LearningEngineError
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import maintain as maintain_step
from tests.faults.weeks import RUN_OF_WEEK, STEPS, Weeks

Harm = Callable[[bytes], bytes]


def one_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def another_schema(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"schema": 99}).encode()


HARMS = [one_bit, pytest.param(cut_short, marks=pytest.mark.stack)]


def modify(weeks: Weeks, key: str, harm: Harm, *, forget: bool = False) -> None:
    """Rewrite an object; keep its metadata, or drop them as a program that ignores them would."""
    at = {"Bucket": weeks.store.bucket, "Key": weeks.store.prefix + key}
    answer = weeks.client.get_object(**at)
    data = answer["Body"].read()
    assert harm(data) != data
    weeks.client.put_object(**at, Body=harm(data), Metadata={} if forget else answer["Metadata"])


@dataclass(frozen=True)
class Case:
    """The modified object, and the step that reads it."""

    name: str
    step: str
    key: Callable[[Weeks], str]
    # Whether another record also holds its digest, besides its own metadata.
    recorded: bool = True

    def __str__(self) -> str:
        return f"{self.name}, {self.step}"


def of_run(name: str) -> Callable[[Weeks], str]:
    return lambda weeks: manifest.run_key(weeks.dataset.run_key, name)


def always(key: str) -> Callable[[Weeks], str]:
    return lambda weeks: key


def fisher_file(weeks: Weeks) -> str:
    return weeks.store.key(str(weeks.fisher.uri))


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


@pytest.mark.parametrize("harm", [one_bit, cut_short, another_schema])
@pytest.mark.parametrize("forget", [False, True])
def test_an_unreadable_pointer_is_rewritten_from_the_ledger(weeks: Weeks, harm: Harm, forget: bool) -> None:
    weeks.back_to(weeks.before["deploy"])
    intact = weeks.store.get_bytes(manifest.CURRENT)
    modify(weeks, manifest.CURRENT, cut_short if (harm, forget) == (one_bit, True) else harm, forget=forget)
    made = STEPS["deploy"](weeks, weeks.loop().resources)
    assert made.version == "v1.2"
    assert weeks.store.get_bytes(manifest.CURRENT) == intact


@pytest.mark.parametrize("step", ["train", "evaluate", "publish"])
def test_the_error_for_missing_staging_names_the_step_to_clear(weeks: Weeks, step: str) -> None:
    weeks.back_to(weeks.before[step])
    weeks.store.delete([stored.key for stored in weeks.store.list(manifest.RUNS)])
    with pytest.raises(NotFound, match=r"runs/.*there is no such object.*clear the run from `extract`") as caught:
        STEPS[step](weeks, weeks.loop().resources)
    assert not caught.value.retryable


def test_with_a_modified_checkpoint_the_training_starts_over(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["evaluate"])
    key = max(stored.key for stored in weeks.store.list(manifest.run_key(weeks.dataset.run_key, "checkpoints/")))
    weeks.store.delete([manifest.run_key(weeks.dataset.run_key, "candidate.json")])
    modify(weeks, key, one_bit)
    made = STEPS["train"](weeks, weeks.loop().resources)
    assert (made.training.resumed_at_step, made.sha256) == (0, weeks.candidate.sha256)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("key", [always("fisher/v1.1/fisher.json"), fisher_file], ids=["record", "file"])
def test_modified_fisher_information_is_measured_again(weeks: Weeks, key: Callable[[Weeks], str], harm: Harm) -> None:
    weeks.back_to(weeks.before["train"])
    modify(weeks, key(weeks), harm)
    assert STEPS["fisher"](weeks, weeks.loop().resources) == weeks.fisher
    assert weeks.store.digest(fisher_file(weeks)) == weeks.fisher.sha256


@pytest.mark.parametrize("harm", HARMS)
def test_modified_held_out_rows_of_an_earlier_window_are_not_used_to_judge(weeks: Weeks, harm: Harm) -> None:
    weeks.back_to(weeks.before["evaluate"])
    modify(weeks, "heldout/v1.0/heldout.parquet", harm)
    report = STEPS["evaluate"](weeks, weeks.loop().resources)
    assert "v1.0" in weeks.report.scores
    assert report.scores.keys() == weeks.report.scores.keys() - {"v1.0"}


def test_a_modified_claim_costs_only_its_number(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["publish"])
    claim = manifest.adapter_key("v1.2", manifest.claim_name("stopped"))
    weeks.store.put_json(claim, {"record": "Claim"})
    modify(weeks, claim, one_bit)
    assert STEPS["publish"](weeks, weeks.loop().resources).version == "v1.3"


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
