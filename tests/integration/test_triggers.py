"""Every way to start a run manually, through the real scheduler: each run gets the right window.

Each run requires more samples than there are, so that it stops at the count gate, which is tested as well.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.conftest import Live, rows_of, week
from tests.integration.test_rest import api

DAG = "learning_engine_weekly"
TOO_MANY = 100_000_000
AFTER_THE_GATE = ("fisher", "train", "evaluate", "publish", "accepted", "approve", "deploy", "verify")


@pytest.fixture(scope="module")
def started(live: Live) -> dict[str, str]:
    """The id of one run for each way to start one; they run concurrently."""
    live.add_feedback(rows_of(4, 17))
    live.rest.unpause(DAG)
    now = datetime.now(UTC)
    conf = {"min_samples": TOO_MANY}
    typed = {"window_start": "2001-01-01T00:00:00Z", "window_end": "2001-02-01T00:00:00+01:00"}
    live.cli("dags", "trigger", DAG, "--run-id", "cli", "--conf", f'{{"min_samples": {TOO_MANY}}}')
    return {
        "the form, which sends the time of the click": live.trigger(logical_date=now.isoformat(), conf=conf),
        "REST with logical_date null": live.trigger(conf=conf),
        "airflow dags trigger with no date": "cli",
        "params that name a window": live.trigger(conf={**conf, **typed}),
        "an interval typed into the form": live.trigger(
            logical_date=(now - timedelta(seconds=1)).isoformat(),
            data_interval_start=week(4).start.isoformat(),
            data_interval_end=week(4).end.isoformat(),
            conf=conf,
        ),
    }


@pytest.mark.parametrize(
    "shape",
    [
        "the form, which sends the time of the click",
        "REST with logical_date null",
        "airflow dags trigger with no date",
        "params that name a window",
        "an interval typed into the form",
    ],
)
def test_a_manual_run_has_the_right_window(live: Live, started: dict[str, str], shape: str):
    run = started[shape]
    assert live.wait_for_end(run) == "success", live.explain(run)
    window: dict[str, Any] = live.xcom(run, "extract")["window"]
    if shape == "params that name a window":
        assert (window["start"], window["end"]) == ("2001-01-01T00:00:00Z", "2001-01-31T23:00:00Z")
        return
    assert datetime.fromisoformat(window["end"]) == week(4).end
    # Carry-over may move the start back to the end of the parent's window, but never past this week's start.
    assert datetime.fromisoformat(window["start"]) <= week(4).start


def test_too_few_samples_skip_the_training_and_give_the_reason(live: Live, started: dict[str, str]):
    run = started["REST with logical_date null"]
    assert live.wait_for_end(run) == "success"
    states = live.states(run)
    assert {states[name] for name in AFTER_THE_GATE} == {"skipped"}
    verdict = live.xcom(run, "enough", "verdict")
    assert (verdict["passed"], verdict["needed"]) == (False, TOO_MANY)
    assert verdict["samples"] + sum(verdict["dropped"].values()) == verdict["read"]
    assert f'"needed": {TOO_MANY}' in live.log(run, "enough")
    status = api(live, "GET", "training/status", params={"run_id": run}).json()
    assert status["recent"][0]["verdict"] == f"{verdict['samples']} rows, {TOO_MANY} are needed"


def test_an_empty_window_does_not_fail_the_run(live: Live, started: dict[str, str]):
    run = started["params that name a window"]
    assert live.wait_for_end(run) == "success"
    assert live.xcom(run, "enough", "verdict")["samples"] == 0


@pytest.mark.parametrize(
    "conf",
    [
        {"ewc_lambda": -1},
        {"epochs": 0},
        {"learning_rate": 7},
        {"min_samples": "many"},
        {"force": "everything"},
        {"deploy": "now"},
        {"window_start": "yesterday"},
        {"base_model": ""},
    ],
)
def test_rest_refuses_values_that_the_form_would_refuse(live: Live, conf: dict[str, Any]):
    import requests

    with pytest.raises(requests.HTTPError, match="400"):
        live.trigger(conf=conf)


def test_half_a_window_fails_before_any_work_and_without_retries(live: Live):
    live.rest.unpause(DAG)
    run = live.trigger(conf={"window_start": "2026-01-05T02:00:00Z"})
    assert live.wait_for_end(run) == "failed"
    tasks = live.tasks(run)
    assert (tasks["turn"]["state"], tasks["turn"]["try_number"]) == ("failed", 1)
    assert tasks["extract"]["state"] == "upstream_failed"
    assert "give both, or leave both empty" in live.log(run, "turn")
