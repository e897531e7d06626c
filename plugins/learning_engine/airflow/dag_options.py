"""What the DAG files share: default arguments, the params of the forms, the adapter asset, the failure notifier.

Imported while DAG files are parsed.
"""

from datetime import datetime, time, timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, Param
from airflow.sdk.module_loading import import_string

from learning_engine.config import Settings


def every_dag(settings: Settings, name: str) -> dict[str, Any]:
    """What the DAGs have in common; `name` follows the configured prefix in the DAG's id."""
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
    """Owner, queue, retries with exponential back-off, time-out and notifier of every task."""
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

    Not of the scheme s3, nor of any that Airflow looks up: it would import boto3 each time the DAG file is parsed.
    """
    prefix = f"{settings.store.prefix.strip('/')}/" if settings.store.prefix.strip("/") else ""
    return Asset(
        name=f"{settings.dag.id_prefix}_adapter", uri=f"x-learning-engine://{settings.store.bucket}/{prefix}adapters"
    )


def window_params() -> dict[str, Param]:
    """Both empty: the run's own interval. Half-open, [start, end)."""
    return {
        "window_start": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Window start",
            description="First moment of the feedback to learn from, with a time zone. Empty: the run's own interval.",
            section="Window",
        ),
        "window_end": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Window end",
            description="First moment that no longer belongs to the window. Give both or neither.",
            section="Window",
        ),
    }


def training_params(settings: Settings) -> dict[str, Param]:
    """What one run may change; bounds are the configuration's own."""
    auto = settings.ewc.lambda_ == "auto"
    return {
        "min_samples": Param(
            settings.feedback.min_samples,
            type="integer",
            minimum=1,
            maximum=100_000_000,
            title="Minimum samples",
            description="Fewer usable rows than this skip the training; carry-over keeps them for the next window.",
            section="Gate",
        ),
        "force": Param(
            "none",
            type="string",
            enum=["none", "count", "quality"],
            title="Force",
            description="count: train however few samples there are. quality: deploy even what the gate rejects.",
            section="Gate",
        ),
        "deploy": Param(
            settings.deploy,
            type="string",
            enum=["auto", "approve", "never"],
            title="Deploy",
            description="auto: what the gate accepts goes live. approve: a person decides. never: publish only.",
            section="Gate",
        ),
        "ewc_lambda": Param(
            None if auto else settings.ewc.lambda_,
            type=["null", "number"] if auto else "number",
            minimum=0,
            maximum=1e9,
            title="EWC λ",
            description="How firmly earlier lessons are held; 100 to 1000 is the useful range, 0 switches EWC off."
            + (" Empty: found so that ewc.kl_budget is met." if auto else ""),
            section="Training",
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
        "learning_rate": Param(
            settings.training.learning_rate,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            title="Learning rate",
            description="Peak learning rate of AdamW on the LoRA weights.",
            section="Training",
        ),
        "base_model": Param(
            settings.model.base,
            type="string",
            minLength=1,
            title="Base model",
            description="Hub name or directory. Another base starts a new major version.",
            section="Training",
        ),
    }
