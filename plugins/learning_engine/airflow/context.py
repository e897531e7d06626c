"""What every task shares: settings and resources from the run's context, and which errors a retry can mend."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowFailException

from learning_engine import config
from learning_engine.airflow.connections import connect
from learning_engine.errors import LearningEngineError
from learning_engine.records.contracts import RunInfo
from learning_engine.steps.resources import Resources

P = ParamSpec("P")
R = TypeVar("R")


def permanent_errors_fail(function: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that no retry can mend into a failure without retries."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except LearningEngineError as error:
            if error.retryable:
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    return wrapper


def settings_of(context: Any) -> config.Settings:
    return config.load(context["params"])


def resources_of(context: Any) -> Resources:
    return connect(settings_of(context))


def run_info(context: Any) -> RunInfo:
    run = context["dag_run"]
    kind = getattr(run.run_type, "value", str(run.run_type))
    return RunInfo(dag_id=run.dag_id, run_id=run.run_id, run_type=kind, triggered_by=run.triggering_user_name)


def person(context: Any) -> str:
    run = context["dag_run"]
    return f"{run.triggering_user_name or 'an unnamed user'}, by hand"
