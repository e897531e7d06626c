"""Which errors Airflow retries, and who is recorded as having started a run."""

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRun
from airflow.sdk.exceptions import AirflowFailException

from learning_engine import errors
from learning_engine.airflow import context as airflow_context
from learning_engine.cli.exit_codes import CliError
from learning_engine.errors import LearningEngineError
from learning_engine.records.base import RecordError
from learning_engine.records.contracts import RunInfo
from learning_engine.registry.store import NotFound, StoreRefused


def _all(kind: type[LearningEngineError]) -> list[type[LearningEngineError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _all(child))]


# The errors that a task can raise, which excludes the command line's own.
ERRORS = [kind for kind in _all(LearningEngineError) if not issubclass(kind, CliError)]


def run(user: str | None, run_type: str = "manual") -> dict[str, Any]:
    """The context's run as Airflow passes it to a task."""
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    return {
        "dag_run": DagRun(
            dag_id="learning_engine_weekly",
            run_id="r1",
            run_type=run_type,
            logical_date=moment,
            data_interval_start=moment,
            data_interval_end=moment,
            run_after=moment,
            start_date=moment,
            end_date=None,
            state="running",
            partition_key=None,
            consumed_asset_events=[],
            triggering_user_name=user,
        )
    }


def test_exactly_these_errors_are_retryable() -> None:
    declared = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name for name, kind in declared.items() if kind.retryable} == {
        "FeedbackUnavailable",
        "NoRoom",
        "OutOfMemory",
        "StoreError",
        "ServingError",
    }
    for permanent in (NotFound, StoreRefused, RecordError):
        assert permanent in ERRORS
        assert not permanent.retryable


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_only_retryable_errors_are_retried(kind: type[LearningEngineError]) -> None:
    error = kind("expected this, found that")

    @airflow_context.permanent_errors_fail
    def task() -> None:
        raise error

    with pytest.raises((LearningEngineError, AirflowFailException)) as raised:
        task()
    if kind.retryable:
        assert raised.value is error
    else:
        assert type(raised.value) is AirflowFailException
        assert str(raised.value) == f"{kind.__name__}: expected this, found that"
        assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_an_error_that_is_not_ours_is_raised_unchanged(error: BaseException) -> None:
    @airflow_context.permanent_errors_fail
    def task() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        task()
    assert raised.value is error


def test_a_task_keeps_its_name_arguments_and_result() -> None:
    @airflow_context.permanent_errors_fail
    def train(dataset: str, *, fisher: str) -> str:
        """Doc."""
        return dataset + fisher

    assert (train.__name__, train.__doc__, train("a", fisher="b")) == ("train", "Doc.", "ab")


@pytest.mark.parametrize("run_type", ["manual", "scheduled", "backfill"])
def test_run_info_names_the_run_and_who_triggered_it(run_type: str) -> None:
    info = airflow_context.run_info(run("ada", run_type))
    assert info == RunInfo(dag_id="learning_engine_weekly", run_id="r1", run_type=run_type, triggered_by="ada")
    assert RunInfo.from_json(info.to_json()) == info
    assert airflow_context.run_info(run(None, run_type)).triggered_by is None


def test_a_person_is_named_if_airflow_knows_the_name() -> None:
    assert airflow_context.person(run("ada")) == "ada, by hand"
    assert airflow_context.person(run(None)) == "an unnamed user, by hand"


def test_params_of_the_run_override_the_settings() -> None:
    assert (
        airflow_context.settings_of({"params": {"ewc_lambda": 7.0, "window_start": None, "force": "none"}}).ewc.lambda_
        == 7
    )
    assert airflow_context.settings_of({"params": {}}).ewc.lambda_ == "auto"
