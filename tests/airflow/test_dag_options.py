"""The configuration's effect on every task (notifier, retries, time-outs), and the weekly DAG's timetable."""

import json
from typing import Any

import pytest

from tests.airflow.test_dag_files import in_subprocess
from tests.conftest import ROOT

DESCRIBE = f"""
import json
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder={str(ROOT / "dags")!r}, collect_dags=False)
bag.collect_dags(dag_folder={str(ROOT / "dags")!r}, safe_mode=False)

def callback(task):
    found = task.on_failure_callback
    found = [found] if callable(found) else list(found or ())
    return [[f"{{type(one).__module__}}.{{type(one).__qualname__}}", one.to, one.subject] for one in found]

def seconds(delta):
    return delta.total_seconds() if delta is not None else None

print(json.dumps([bag.import_errors, {{
    dag_id: {{
        "timetable": [type(dag.timetable).__name__, getattr(dag.timetable, "expression", None),
                      str(getattr(dag.timetable, "timezone", None))],
        "tasks": {{
            task.task_id: {{
                "callback": callback(task),
                "retries": [task.retries, seconds(task.retry_delay), task.retry_exponential_backoff,
                            seconds(task.max_retry_delay)],
                "timeout": seconds(task.execution_timeout),
                "owner": task.owner,
                "queue": task.queue,
            }}
            for task in dag.tasks
        }},
    }}
    for dag_id, dag in bag.dags.items()
}}]))
"""
HEAVY = {("weekly", "fisher"), ("weekly", "train"), ("weekly", "evaluate"), ("fisher", "fisher_of_version")}
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"


def dags(**environment: str) -> dict[str, Any]:
    errors, found = in_subprocess(DESCRIBE, **environment)
    assert errors == {}
    assert len(found) >= 4
    return found


def tasks(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (dag_id.removeprefix("learning_engine_"), name): task
        for dag_id, dag in found.items()
        for name, task in dag["tasks"].items()
    }


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """The DAGs under settings that differ from every default."""
    arguments = {"to": "ops@example.org", "from_email": "airflow@example.org", "subject": "Learning Engine failed"}
    return dags(
        LEARNING_ENGINE__DAG__ON_FAILURE=SMTP,
        LEARNING_ENGINE__DAG__ON_FAILURE_ARGUMENTS=json.dumps(arguments),
        LEARNING_ENGINE__DAG__RETRIES="5",
        LEARNING_ENGINE__DAG__RETRY_DELAY_SECONDS="7",
        LEARNING_ENGINE__DAG__MAX_RETRY_DELAY_SECONDS="70",
        LEARNING_ENGINE__DAG__STEP_TIMEOUT_MINUTES="11",
        LEARNING_ENGINE__DAG__TRAIN_TIMEOUT_MINUTES="100",
        LEARNING_ENGINE__DAG__SCHEDULE="15 3 * * 2",
        LEARNING_ENGINE__DAG__TIMEZONE="Europe/Berlin",
        LEARNING_ENGINE__DAG__OWNER="team",
    )


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return dags()


def test_every_task_has_the_configured_failure_notifier(configured: dict[str, Any]) -> None:
    for name, task in tasks(configured).items():
        assert task["callback"] == [[SMTP, "ops@example.org", "Learning Engine failed"]], name


def test_without_a_notifier_no_task_has_a_callback(default: dict[str, Any]) -> None:
    assert {name: task["callback"] for name, task in tasks(default).items() if task["callback"]} == {}


def test_every_task_is_retried_after_delays_that_grow_up_to_a_bound(
    configured: dict[str, Any], default: dict[str, Any]
) -> None:
    for name, task in tasks(configured).items():
        assert task["retries"] == [5, 7, True, 70], name
    for name, task in tasks(default).items():
        assert task["retries"] == [2, 60, True, 1800], name


def test_every_task_but_the_approval_has_a_time_out(configured: dict[str, Any]) -> None:
    found = {name: task["timeout"] for name, task in tasks(configured).items()}
    assert set(found) > HEAVY
    assert found.pop(("weekly", "approve")) is None
    assert found == {name: 6000 if name in HEAVY else 660 for name in found}


def test_every_task_has_the_configured_owner(configured: dict[str, Any]) -> None:
    assert {task["owner"] for task in tasks(configured).values()} == {"team"}


def test_a_weekly_run_covers_the_interval_since_the_run_before(configured: dict[str, Any]) -> None:
    assert configured["learning_engine_weekly"]["timetable"] == [
        "CronDataIntervalTimetable",
        "15 3 * * 2",
        "Europe/Berlin",
    ]


def test_three_dags_are_scheduled(default: dict[str, Any]) -> None:
    scheduled = {name: dag["timetable"][0] for name, dag in default.items() if dag["timetable"][0] != "NullTimetable"}
    assert scheduled == {
        "learning_engine_weekly": "CronDataIntervalTimetable",
        "learning_engine_reconcile": "DeltaTriggerTimetable",
        "learning_engine_maintenance": "CronTriggerTimetable",
    }


def test_a_notifier_that_cannot_be_imported_is_an_import_error_of_the_dag_file() -> None:
    errors, found = in_subprocess(DESCRIBE, LEARNING_ENGINE__DAG__ON_FAILURE="nowhere.Notifier")
    assert found == {}
    assert errors
    assert all("nowhere" in error for error in errors.values())
