"""Airflow's and Celery's settings of docker-compose.airflow.yaml, with short times so that faults show in seconds."""

from typing import Any

import yaml

from demo.ports import free_port
from demo.postgres import Postgres
from tests.integration.celery.broker import Broker
from tests.production.conftest import COMPOSE, example, interpolate

KEPT = ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW__CELERY", "AIRFLOW__SCHEDULER")
QUEUE, POOL = "cuda", "cuda"
# In seconds; the value of the compose file or of Airflow is in brackets.
SHORT = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",  # (300) without a heartbeat until the attempt has failed
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",  # (10) between two checks for such attempts
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # (5) between two heartbeats
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "20",  # (86400) until a task that no worker has begun is sent again
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "2",  # (120) between two checks for such tasks
}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(interpolate(COMPOSE.read_text(), dict.fromkeys(example(), "unused")))
    return loaded


def options(broker: Broker, database: Postgres) -> dict[str, str]:
    """Airflow's options as SECTION__KEY: those of the compose file, with this stack's addresses and short times."""
    written: dict[str, str] = compose()["x-airflow"]["environment"]
    kept = {key.removeprefix("AIRFLOW__"): value for key, value in written.items() if key.startswith(KEPT)}
    result_backend = f"db+{database.uri('airflow')}"
    assert result_backend.partition("://")[0] == kept["CELERY__RESULT_BACKEND"].partition("://")[0]
    return {
        **kept,
        **SHORT,
        "CELERY__BROKER_URL": broker.url,
        "CELERY__RESULT_BACKEND": result_backend,
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(free_port()),
    }


def command(service: str) -> list[str]:
    """The compose file's command of a worker, with this stack's name of the GPU queue."""
    words = str(compose()["services"][service]["command"]).split()
    return [QUEUE if word == "gpu" else word for word in words]
