"""The task `enough` for various row counts, with the verdict in its XCom."""

from datetime import UTC, datetime
from typing import Any

import pytest

from learning_engine.airflow import weekly_tasks
from learning_engine.records.contracts import Dataset, Window


class TaskInstance:
    """`pushed` has the XComs of this task; `upstream` those of other tasks, by task and key."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.upstream: dict[tuple[str, str], Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.upstream.get((task_ids, key))


def dataset(rows: int, heldout: int | None = None, users: int | None = None) -> dict[str, Any]:
    return Dataset(
        run_key="k",
        parent=None,
        window=Window(datetime(2026, 11, 9, 2, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC)),
        uri="s3://lora-adapters/runs/k/dataset.parquet",
        sha256="0" * 64,
        rows=rows,
        thumbs_up=rows,
        thumbs_down=0,
        users=users,
        conversations=rows,
        read=rows + 3,
        dropped={"no_answer": 3},
        heldout=heldout,
    ).to_json()


@pytest.mark.parametrize(
    ("rows", "force", "passes"),
    [
        (0, "none", False),
        (1, "none", False),
        (199, "none", False),
        (200, "none", True),
        (201, "none", True),
        (1, "count", True),
        (0, "count", False),
        (199, "quality", False),
    ],
)
def test_enough_passes_with_the_minimum_of_rows_or_if_forced(
    monkeypatch: pytest.MonkeyPatch, rows: int, force: str, passes: bool
):
    instance = TaskInstance()
    context = {"params": {"force": force, "min_samples": 200}, "ti": instance}
    monkeypatch.setattr(weekly_tasks, "get_current_context", lambda: context)
    assert weekly_tasks.enough(dataset(rows)) is passes
    assert instance.pushed["verdict"] == {
        "samples": rows,
        "needed": 200,
        "heldout": None,
        "heldout_needed": 8,
        "users": None,
        "users_needed": 1,
        "passed": passes,
        "forced": force == "count" and 0 < rows < 200,
        "why": f"{rows} rows, 200 are needed",
        "read": rows + 3,
        "dropped": {"no_answer": 3},
        "quarantined": {},
    }


@pytest.mark.parametrize(
    ("heldout", "force", "passes"), [(7, "none", False), (8, "none", True), (7, "quality", True), (0, "count", True)]
)
def test_a_window_that_the_gate_could_not_judge_is_not_trained_on(
    monkeypatch: pytest.MonkeyPatch, heldout: int, force: str, passes: bool
):
    instance = TaskInstance()
    context = {"params": {"force": force, "min_samples": 200}, "ti": instance}
    monkeypatch.setattr(weekly_tasks, "get_current_context", lambda: context)
    assert weekly_tasks.enough(dataset(300, heldout)) is passes
    found = instance.pushed["verdict"]
    assert found["forced"] is (force != "none")
    missing = (
        f"; {heldout} held-out conversations with a liked answer, the gate needs 8: widen the window" in found["why"]
    )
    assert missing is (heldout < 8)


@pytest.mark.parametrize(
    ("users", "force", "why"),
    [
        (3, "none", ""),
        (2, "none", "; 2 different users, the gate needs 3: widen the window, or change gate.min_users"),
        (0, "none", "; the users are unknown, the gate needs 3: set feedback.columns.user, or gate.min_users to 1"),
        (None, "none", "; the users are unknown, the gate needs 3: set feedback.columns.user, or gate.min_users to 1"),
        (2, "quality", "; 2 different users, the gate needs 3: widen the window, or change gate.min_users"),
    ],
)
def test_a_window_of_too_few_users_is_not_trained_on(
    monkeypatch: pytest.MonkeyPatch, users: int | None, force: str, why: str
):
    monkeypatch.setenv("LEARNING_ENGINE__GATE__MIN_USERS", "3")
    instance = TaskInstance()
    context = {"params": {"force": force}, "ti": instance}
    monkeypatch.setattr(weekly_tasks, "get_current_context", lambda: context)
    assert weekly_tasks.enough(dataset(300, 8, users)) is (not why or force == "quality")
    assert instance.pushed["verdict"]["why"] == f"300 rows, 200 are needed{why}"
