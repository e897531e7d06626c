"""The complete Airflow on embedded PostgreSQL: start, a backfill of two runs, a failing run with its log, stop."""

import os
from datetime import UTC, datetime

import pytest
import requests

from demo import airflow, postgres
from demo.ports import free_port
from demo.process_tree import marked
from demo.processes import Stack, StackError
from demo.rest import Rest, wait_for_runs

DAGS = """
import pendulum
from airflow.sdk import CronDataIntervalTimetable, dag, task

WEEKLY = CronDataIntervalTimetable("0 2 * * 1", timezone="UTC")
OPTIONS = {"schedule": WEEKLY, "start_date": pendulum.datetime(2026, 1, 5, tz="UTC"), "catchup": False}


@task
def read(data_interval_start=None):
    return data_interval_start.isoformat()


@task
def write(start):
    import os
    print(os.environ["FROM_THE_CALLER"], start)


@task
def fail():
    raise ValueError("a deliberate error")


@dag(**OPTIONS)
def succeeding():
    write(read())


@dag(**OPTIONS)
def failing():
    fail()


succeeding()
failing()
"""
pytestmark = pytest.mark.stack
FIRST, SECOND = datetime(2026, 10, 19, 2, tzinfo=UTC), datetime(2026, 10, 26, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("airflow")
    for name in ("dags", "plugins"):
        (directory / name).mkdir()
    (directory / "dags" / "steps.py").write_text(DAGS)
    stack, taken = Stack(directory), set[int]()
    try:
        database = postgres.prepare(directory / "postgres", port=free_port(taken=taken))
        stack.up(database.program())
        database.create("airflow")
        configured = airflow.configure(
            directory / "home",
            dags=directory / "dags",
            plugins=directory / "plugins",
            database=database.uri("airflow", "psycopg2"),
            port=free_port(taken=taken),
            env={"FROM_THE_CALLER": "a greeting"},
            ports=taken,
        )
        stack.run(airflow.migrate(configured))
        started = [(program, stack.start(program)) for program in airflow.services(configured)]
        for program, process in started:
            stack.wait(program, process)
        yield stack, configured, Rest(configured)
    finally:
        stack.stop()
        postgres.remove(directory / "postgres")
    assert marked(stack.directory) == {}


def test_a_backfill_runs_through_the_scheduler(running):
    stack, configured, rest = running
    rest.wait_for_dag("succeeding")
    airflow.backfill(configured, stack, "succeeding", first=FIRST, last=SECOND, max_active_runs=1)
    rest.unpause("succeeding")
    seen: list[int] = []
    runs = wait_for_runs(
        rest, "succeeding", expected=2, seconds=150, check=stack.check, show=lambda runs: seen.append(len(runs))
    )
    assert [run.start for run in runs] == [FIRST, SECOND]
    assert [[(task.task, task.state) for task in run.tasks] for run in runs] == 2 * [
        [("read", "success"), ("write", "success")]
    ]
    assert all(task.seconds is not None for run in runs for task in run.tasks)
    assert seen
    assert "a greeting 2026-10-19T02:00:00" in rest.log("succeeding", runs[0].run_id, runs[0].tasks[1])


def test_the_error_of_a_failed_run_has_the_log_of_its_task(running):
    stack, configured, rest = running
    rest.wait_for_dag("failing")
    airflow.backfill(configured, stack, "failing", first=FIRST, last=FIRST, max_active_runs=1)
    rest.unpause("failing")
    with pytest.raises(StackError, match=r"(?s)run backfill__2026-10-26.* failed.*task fail.*a deliberate error"):
        wait_for_runs(rest, "failing", expected=1, seconds=150, check=stack.check)


def test_requests_without_a_login_are_refused(running):
    _, configured, _ = running
    assert requests.get(f"{configured.url}/api/v2/dags", timeout=10).status_code == 401
    assert configured.password not in repr(configured)


def test_airflow_settings_of_the_shell_are_not_inherited(running):
    _, configured, _ = running
    assert configured.env["AIRFLOW_HOME"] != os.environ["AIRFLOW_HOME"]
    assert "AIRFLOW__CORE__UNIT_TEST_MODE" not in configured.env
