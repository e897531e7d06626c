"""Slices through whole weekly runs, beginning with a version that had none."""

from pathlib import Path

import pytest

from learning_engine.errors import FeedbackError
from learning_engine.feedback import heldout
from learning_engine.registry import manifest
from learning_engine.steps import extract as extract_step
from tests.steps.conftest import Loop, week

SLICES = {"user": "user_id", "role": "request.messages[0].role"}


def test_later_versions_judge_earlier_windows_by_slice(begun: Loop, tmp_path: Path) -> None:
    sliced = begun.with_settings(feedback={"slices": SLICES})
    sliced.teach(1, 2)
    second, third = sliced.learn(week(1)), sliced.learn(week(2))
    (without, after) = (version.report.slices for version in (second, third))
    (role,) = (part for part in without if part.name == "role")
    assert (role.value, role.conversations) == ("user", second.report.heldout_conversations)
    assert (role.loss, role.loss_parent) == pytest.approx((second.report.loss, second.report.loss_parent))
    assert role.scores == {}, "v1.0 was published without slices"
    (role,) = (part for part in after if part.name == "role")
    assert role.scores == {"v1.1": pytest.approx(third.report.scores["v1.1"])}
    assert {part.value for part in after if part.name == "user"} <= {f"user {number}" for number in range(7)}
    path = tmp_path / "heldout.parquet"
    for version, found in (("v1.0", {}), ("v1.1", {"role": {"user"}})):
        sliced.resources.store.get_file(manifest.heldout_key(version), path)
        values = heldout.slices(path)
        assert {name: set(values[name]) for name in values if name != "user"} == found


def test_a_slice_without_its_column_stops_the_run_before_any_work(begun: Loop) -> None:
    before = begun.objects()
    begun.teach(1)
    wrong = begun.with_settings(feedback={"slices": {"language": "lang"}})
    with pytest.raises(FeedbackError, match=r"Expected the columns lang .* found request_data, .*feedback\.slices"):
        extract_step.extract(wrong.resources, week(1), widen=True)
    assert begun.objects() == before
