"""Options that the DAGs share: default arguments, form params, the adapter asset and the failure notifier.

Imported when DAG files are parsed.
"""

from datetime import datetime, time, timedelta
from typing import Any, Literal

import pendulum
from airflow.sdk import Asset, Param
from airflow.sdk.module_loading import import_string

from learning_engine.config import Settings

# What the params that name a version have in common.
VERSION = {"title": "Version", "pattern": r"^v[0-9]+\.[0-9]+$"}


def every_dag(settings: Settings, name: str) -> dict[str, Any]:
    """The arguments common to all DAGs; the DAG id is the configured prefix followed by `name`."""
    return {
        "dag_id": f"{settings.dag.id_prefix}_{name}",
        "max_active_runs": 1,
        "catchup": False,
        "default_args": default_args(settings),
        "tags": list(settings.dag.tags),
    }


def start_date(settings: Settings) -> datetime:
    """Midnight of `dag.start_date` in the DAGs' time zone."""
    return pendulum.instance(datetime.combine(settings.dag.start_date, time.min), tz=settings.dag.timezone)


def default_args(settings: Settings) -> dict[str, Any]:
    """The defaults of every task: owner, queue, retries with exponential back-off, time-out and notifier."""
    dag = settings.dag
    arguments: dict[str, Any] = {
        "owner": dag.owner,
        "queue": dag.queue,
        "retries": dag.retries,
        "retry_delay": timedelta(seconds=dag.retry_delay_seconds),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(seconds=dag.max_retry_delay_seconds),
        "execution_timeout": timedelta(minutes=dag.step_timeout_minutes),
    }
    if dag.on_failure:
        arguments["on_failure_callback"] = import_string(dag.on_failure)(**dag.on_failure_arguments)
    return arguments


def gpu(settings: Settings) -> dict[str, Any]:
    """Queue, pool and time-out of the tasks that need the base model in memory."""
    return {
        "queue": settings.dag.train_queue,
        "pool": settings.dag.train_pool,
        "execution_timeout": timedelta(minutes=settings.dag.train_timeout_minutes),
    }


def serving(settings: Settings) -> dict[str, Any]:
    """Queue and pool of the tasks that need the model server's disk."""
    return {"queue": settings.dag.deploy_queue, "pool": settings.dag.registry_pool}


def adapter_asset(settings: Settings) -> Asset:
    """The published versions as an Airflow asset; an event's extra is the version's metadata.

    The URI uses its own scheme: for s3 Airflow would import boto3 each time it parses the DAG file.
    """
    prefix = f"{settings.store.prefix.strip('/')}/" if settings.store.prefix.strip("/") else ""
    return Asset(
        name=f"{settings.dag.id_prefix}_adapter", uri=f"x-learning-engine://{settings.store.bucket}/{prefix}adapters"
    )


def window_params() -> dict[str, Param]:
    """The params of a half-open window [start, end). If both are empty, the run uses its own interval."""
    moment = {"type": ["null", "string"], "format": "date-time", "section": "Window"}
    start = "Start of the feedback to learn from, with a time zone. Empty: the run's own interval."
    return {
        "window_start": Param(None, **moment, title="Window start", description=start),
        "window_end": Param(
            None, **moment, title="Window end", description="End of the window, not included. Set both or neither."
        ),
    }


def training_params(settings: Settings) -> dict[str, Param]:
    """The settings that a single run may override, with the configuration's bounds."""
    return {
        "min_samples": Param(
            settings.feedback.min_samples,
            type="integer",
            minimum=1,
            maximum=100_000_000,
            title="Minimum samples",
            description="With fewer usable rows, training is skipped; carry-over adds the rows to the next window.",
            section="Gate",
        ),
        "force": Param(
            "none",
            type="string",
            enum=["none", "count", "quality"],
            title="Force",
            description="count: train even with too few samples. quality: deploy even if the gate rejects the version.",
            section="Gate",
        ),
        "deploy": Param(
            settings.deploy,
            type="string",
            enum=["auto", "approve", "never"],
            title="Deploy",
            description="auto: deploy what the gate accepts. approve: a person decides. never: publish only.",
            section="Gate",
        ),
        "ewc_lambda": _number_or_auto(
            settings.ewc.lambda_,
            minimum=0,
            maximum=1e9,
            title="EWC λ",
            description="Strength of the penalty that protects earlier lessons, usually 100 to 1000; 0 turns EWC off.",
            auto="chosen automatically at each step",
        ),
        "epochs": Param(
            settings.training.epochs,
            type="number",
            exclusiveMinimum=0,
            maximum=1000,
            title="Epochs",
            description="Passes over the window's rows.",
            section="Training",
        ),
        "learning_rate": _number_or_auto(
            settings.training.learning_rate,
            exclusiveMinimum=0,
            maximum=1,
            title="Learning rate",
            description="Peak learning rate of AdamW on the LoRA weights.",
            auto="chosen by the model's width",
        ),
        "base_model": Param(
            settings.model.base,
            type="string",
            minLength=1,
            title="Base model",
            description="Hub name or directory. A different base model starts a new major version.",
            section="Training",
        ),
    }


def _number_or_auto(value: float | Literal["auto"], *, description: str, auto: str, **schema: Any) -> Param:
    """The param of a training's number, empty for "auto"; `auto` says what that does."""
    if value == "auto":
        return Param(
            None, type=["null", "number"], section="Training", description=f"{description} Empty: {auto}.", **schema
        )
    return Param(value, type="number", section="Training", description=description, **schema)
