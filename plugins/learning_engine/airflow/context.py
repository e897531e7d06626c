"""What every task shares: settings and resources from the run's context, and the handling of non-retryable errors."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from learning_engine import config
from learning_engine.airflow.connections import connect
from learning_engine.errors import LearningEngineError, ResultMissing
from learning_engine.records.contracts import RunInfo
from learning_engine.steps.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")


def permanent_errors_fail(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that turns a non-retryable error, such as a missing result, into a failure without retries."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            _require_results(args)
            return function(*args, **kwargs)
        except LearningEngineError as error:
            if error.retryable:
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    return wrapper


def result_of(context: Any, task_id: str, key: str = "return_value") -> Any:
    """The result of an earlier task of this run. Raises ResultMissing if there is none."""
    result = context["ti"].xcom_pull(task_ids=task_id, key=key)
    if result is None:
        raise _missing(task_id)
    return result


def _require_results(results: tuple[Any, ...]) -> None:
    """Raise ResultMissing if one of the results passed from other tasks is None."""
    for place, result in enumerate(results):
        if result is None:
            context = get_current_context()
            # The context's task has the rendered values; the DAG's task still has the XCom arguments with their origin.
            task = context["dag"].get_task(context["task"].task_id)
            raise _missing(task.op_args[place].operator.task_id)


def _missing(task_id: str) -> ResultMissing:
    return ResultMissing(
        f"Expected a result of {task_id}, found none: it did not complete, even if it is marked as a success. "
        f"Clear this run from {task_id}."
    )


def settings_of(context: Any) -> config.Settings:
    return config.load(context["params"])


def resources_of(context: Any) -> Resources:
    return connect(settings_of(context))


def run_info(context: Any) -> RunInfo:
    run = context["dag_run"]
    kind = getattr(run.run_type, "value", str(run.run_type))
    return RunInfo(dag_id=run.dag_id, run_id=run.run_id, run_type=kind, triggered_by=run.triggering_user_name)


def person(context: Any) -> str:
    """Who triggered this run, for the ledger."""
    run = context["dag_run"]
    return f"{run.triggering_user_name or 'an unnamed user'}, by hand"
