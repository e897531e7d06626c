"""A backfill of four weeks with up to ten concurrent runs and one manual run: the result is one chain, in order."""

from datetime import datetime, timedelta

import pytest

from tests.integration.conftest import Live, rows_of, until, week
from tests.steps.conftest import Loop

DAG = "learning_engine_weekly"


@pytest.mark.timeout(900)
def test_a_backfill_with_concurrent_runs_gives_the_same_chain_as_sequential_runs(live: Live):
    for number in range(5):
        live.add_feedback(rows_of(number))
    # The dates select the starts of intervals. Airflow's default is ten concurrent runs.
    live.cli(
        "backfill", "create", "--dag-id", DAG,
        "--from-date", week(0).start.isoformat(), "--to-date", week(3).start.isoformat(),
    )  # fmt: skip
    manual = live.trigger(conf={})
    live.rest.unpause(DAG)

    def runs() -> list[dict]:
        return live.rest.call("GET", f"dags/{DAG}/dagRuns", params={"limit": 100})["dag_runs"]

    until("the runs to end", lambda: all(run["state"] in ("success", "failed") for run in runs()), seconds=600)
    for run in runs():
        assert run["state"] == "success", live.explain(run["dag_run_id"])
    assert sum(run["run_type"] == "backfill" for run in runs()) == 4
    assert live.state(manual) == "success"

    (scheduled,) = [run["dag_run_id"] for run in runs() if run["run_type"] == "scheduled"]
    assert datetime.fromisoformat(live.xcom(scheduled, "extract")["window"]["start"]) == week(4).start
    assert datetime.fromisoformat(live.xcom(scheduled, "extract")["window"]["end"]) == week(4).end

    chain = live.resources.registry.versions()
    assert [(version.version, version.parent) for version in chain] == [
        ("v1.0", None),
        ("v1.1", "v1.0"),
        ("v1.2", "v1.1"),
        ("v1.3", "v1.2"),
        ("v1.4", "v1.3"),
    ]
    assert [version.window for version in chain] == [week(number) for number in range(5)]
    assert live.resources.ledger.current().version == "v1.4"

    one_at_a_time = Loop(live.resources, live.airflow.home).with_prefix("sequential")
    for number, version in enumerate(chain):
        sequential = one_at_a_time.learn(week(number))
        assert (sequential.version, sequential.sha256) == (version.version, version.sha256)


def test_a_published_version_emits_an_asset_event_with_its_metadata(live: Live):
    events = live.rest.call("GET", "assets/events", params={"order_by": "-timestamp", "limit": 50})["asset_events"]
    extras = [event["extra"] for event in events if event["source_task_id"] == "publish"]
    assert {"v1.0", "v1.4"} <= {extra["version"] for extra in extras}
    newest = next(extra for extra in extras if extra["version"] == "v1.4")
    assert newest["parent"] == "v1.3"
    assert newest["report"]["accepted"]
    assert newest["sha256"] == live.resources.registry.get("v1.4").sha256


def test_the_ledger_records_who_approved(live: Live):
    start = week(4).end
    rows = [
        {**row, "created_at": (start + timedelta(minutes=index)).isoformat(), "conversation_id": f"next-{index}"}
        for index, row in enumerate(rows_of(3))
    ]
    live.add_feedback(rows)
    window = {"window_start": start.isoformat(), "window_end": (start + timedelta(minutes=50)).isoformat()}
    before = live.resources.ledger.current()
    run = live.trigger(conf={**window, "deploy": "approve"})
    subject = live.wait_for_question(run)
    assert live.resources.ledger.current() == before, live.explain(run)
    version = live.xcom(run, "publish")["version"]
    assert version in subject
    live.answer(run, "Approve")
    assert live.wait_for_end(run) == "success", live.explain(run)
    now = live.resources.ledger.current()
    assert (now.version, now.decided_by, now.run.run_id) == (version, "admin, by approval", run)
