"""Modified objects that a step makes again or does without: the run succeeds, and log or report say so."""

import pytest

from learning_engine.registry import manifest
from learning_engine.steps import fisher as fisher_step
from tests.faults.harms import HARMS, Harm, Key, always, another_schema, cut_short, fisher_file, modify, of_run, one_bit
from tests.faults.weeks import STEPS, Weeks


@pytest.mark.parametrize("harm", [one_bit, cut_short, another_schema])
@pytest.mark.parametrize("forget", [False, True])
def test_an_unreadable_pointer_is_rewritten_from_the_ledger(weeks: Weeks, harm: Harm, forget: bool) -> None:
    weeks.back_to(weeks.before["deploy"])
    intact = weeks.store.get_bytes(manifest.CURRENT)
    modify(weeks, manifest.CURRENT, cut_short if (harm, forget) == (one_bit, True) else harm, forget=forget)
    made = STEPS["deploy"](weeks, weeks.loop().resources)
    assert made.version == "v1.2"
    assert weeks.store.get_bytes(manifest.CURRENT) == intact


def test_with_a_modified_checkpoint_the_training_starts_over(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["evaluate"])
    key = max(stored.key for stored in weeks.store.list(manifest.run_key(weeks.dataset.run_key, "checkpoints/")))
    weeks.store.delete([manifest.run_key(weeks.dataset.run_key, "candidate.json")])
    modify(weeks, key, one_bit)
    made = STEPS["train"](weeks, weeks.loop().resources)
    assert (made.training.resumed_at_step, made.sha256) == (0, weeks.candidate.sha256)


@pytest.mark.stack
@pytest.mark.parametrize("name", ["adapter.tar.gz", "candidate.json"])
def test_a_modified_candidate_is_trained_again(weeks: Weeks, caplog: pytest.LogCaptureFixture, name: str) -> None:
    weeks.back_to(weeks.before["evaluate"])
    modify(weeks, of_run(name)(weeks), cut_short)
    made = STEPS["train"](weeks, weeks.loop().resources)
    assert made.sha256 == weeks.candidate.sha256 == weeks.store.digest(weeks.store.key(made.uri))
    assert "train.candidate_altered" in caplog.text


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    ("key", "event"),
    [(always("fisher/v1.1/fisher.json"), "fisher.record_altered"), (fisher_file, "fisher.altered")],
    ids=["record", "file"],
)
def test_modified_fisher_information_is_measured_again(
    weeks: Weeks, caplog: pytest.LogCaptureFixture, key: Key, event: str, harm: Harm
) -> None:
    weeks.back_to(weeks.before["train"])
    modify(weeks, key(weeks), harm)
    assert STEPS["fisher"](weeks, weeks.loop().resources) == weeks.fisher
    assert weeks.store.digest(fisher_file(weeks)) == weeks.fisher.sha256
    assert event in caplog.text


def test_a_modified_snapshot_is_read_again_from_the_source(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["verify"])
    first = fisher_step.fisher_of(weeks.loop().resources, "v1.0", window=None)
    resources = weeks.loop().resources
    modify(weeks, weeks.store.key(resources.registry.get("v1.0").dataset.uri), cut_short)
    again = fisher_step.fisher_of(resources, "v1.0", window=None)
    assert (again.sha256, again.note) == (
        first.sha256,
        "the snapshot was missing or corrupt; its window was read again from the source",
    )


@pytest.mark.parametrize("harm", HARMS)
def test_modified_held_out_rows_of_an_earlier_window_are_not_used_to_judge(weeks: Weeks, harm: Harm) -> None:
    weeks.back_to(weeks.before["evaluate"])
    modify(weeks, "heldout/v1.0/heldout.parquet", harm)
    report = STEPS["evaluate"](weeks, weeks.loop().resources)
    assert "v1.0" in weeks.report.scores
    assert report.scores.keys() == weeks.report.scores.keys() - {"v1.0"}
    assert "The held-out set of v1.0 is gone: its window is not judged." in report.notes


def test_a_modified_claim_costs_only_its_number(weeks: Weeks) -> None:
    weeks.back_to(weeks.before["publish"])
    claim = manifest.adapter_key("v1.2", manifest.claim_name("stopped"))
    weeks.store.put_json(claim, {"record": "Claim"})
    modify(weeks, claim, one_bit)
    assert STEPS["publish"](weeks, weeks.loop().resources).version == "v1.3"
