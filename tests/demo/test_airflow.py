"""The whole Airflow on embedded PostgreSQL: up, a backfill of two runs, a run that fails and says why, down."""

import os
from datetime import UTC, datetime

import pytest
import requests

from demo import airflow, postgres
from demo.kin import marked
from demo.ports import free_port
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
    print(os.environ["OF_THE_CALLER"], start)


@task
def stumble():
    raise ValueError("over a stone")


@dag(**OPTIONS)
def steady():
    write(read())


@dag(**OPTIONS)
def clumsy():
    stumble()


steady()
clumsy()
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
        made = airflow.configure(
            directory / "home",
            dags=directory / "dags",
            plugins=directory / "plugins",
            database=database.uri("airflow", "psycopg2"),
            port=free_port(taken=taken),
            env={"OF_THE_CALLER": "a greeting"},
            ports=taken,
        )
        stack.run(airflow.migrate(made))
        started = [(program, stack.start(program)) for program in airflow.services(made)]
        for program, process in started:
            stack.wait(program, process)
        yield stack, made, Rest(made)
    finally:
        stack.stop()
        postgres.remove(directory / "postgres")
    assert marked(stack.directory) == {}


def test_a_backfill_runs_through_the_scheduler(running):
    stack, made, rest = running
    rest.wait_for_dag("steady")
    airflow.backfill(made, stack, "steady", first=FIRST, last=SECOND, max_active_runs=1)
    rest.unpause("steady")
    seen: list[int] = []
    runs = wait_for_runs(
        rest, "steady", expected=2, seconds=150, check=stack.check, show=lambda runs: seen.append(len(runs))
    )
    assert [run.start for run in runs] == [FIRST, SECOND]
    assert [[(task.task, task.state) for task in run.tasks] for run in runs] == 2 * [
        [("read", "success"), ("write", "success")]
    ]
    assert all(task.seconds is not None for run in runs for task in run.tasks)
    assert seen
    assert "a greeting 2026-10-19T02:00:00" in rest.log("steady", runs[0].run_id, runs[0].tasks[1])


def test_a_failed_run_is_told_with_its_tasks_log(running):
    stack, made, rest = running
    rest.wait_for_dag("clumsy")
    airflow.backfill(made, stack, "clumsy", first=FIRST, last=FIRST, max_active_runs=1)
    rest.unpause("clumsy")
    with pytest.raises(StackError, match=r"(?s)run backfill__2026-10-26.* failed.*task stumble.*over a stone"):
        wait_for_runs(rest, "clumsy", expected=1, seconds=150, check=stack.check)


def test_strangers_are_refused(running):
    _, made, _ = running
    assert requests.get(f"{made.url}/api/v2/dags", timeout=10).status_code == 401
    assert made.password not in repr(made)


def test_the_shells_airflow_settings_do_not_reach_it(running):
    _, made, _ = running
    assert made.env["AIRFLOW_HOME"] != os.environ["AIRFLOW_HOME"]
    assert "AIRFLOW__CORE__UNIT_TEST_MODE" not in made.env
