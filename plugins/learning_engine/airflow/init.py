"""`make init`: create pools, connections and bucket for an existing Airflow. Safe to run again.

    python -m learning_engine.airflow.init

Needs Airflow's database settings (AIRFLOW_HOME, or AIRFLOW__DATABASE__SQL_ALCHEMY_CONN). Creates a missing connection
from FEEDBACK_CONNECTION, STORE_CONNECTION or SERVING_CONNECTION, given as a URI or as Airflow's JSON.
"""

import os
import sys
from collections.abc import Callable

from airflow.exceptions import AirflowNotFoundException
from airflow.models import Connection, Pool
from airflow.sdk import BaseHook
from airflow.utils.session import create_session
from rich.console import Console

from learning_engine import config
from learning_engine.airflow import connections
from learning_engine.errors import LearningEngineError

EXAMPLES = {
    "feedback": '{"conn_type": "postgres", "host": "db", "schema": "app", "login": "reader", "password": "…"}',
    "store": '{"conn_type": "aws", "login": "<access key>", "password": "<secret key>", '
    '"extra": {"endpoint_url": "http://minio:9000", "region_name": "us-east-1"}}',
    "serving": '{"conn_type": "http", "host": "max", "port": 8000, "extra": '
    '{"replicas": ["http://max:8000"], "adapter_dir": "/adapters", "server_adapter_dir": "/adapters"}}',
}


def main() -> int:
    """Print one line for each pool, connection and bucket; return 1 if any of them failed."""
    console = Console(highlight=False)
    try:
        settings = config.load()
    except LearningEngineError as error:
        console.print(f"[red]✗[/] configuration: {error}")
        return 1
    steps: list[tuple[str, Callable[[], str]]] = [
        (f"pool {settings.dag.train_pool}", lambda: pool(settings.dag.train_pool, "One training task at a time")),
        (
            f"pool {settings.dag.registry_pool}",
            lambda: pool(
                settings.dag.registry_pool, "Serialises publish, deploy, verify and sweep: keep it at one slot"
            ),
        ),
        *((f"connection {getattr(settings.connections, kind)}", _connector(settings, kind)) for kind in EXAMPLES),
        (f"bucket {settings.store.bucket}", lambda: bucket(settings)),
    ]
    failed = False
    for name, act in steps:
        try:
            console.print(f"[green]✓[/] {name}: {act()}")
        except Exception as error:  # noqa: BLE001 - every failure is reported, and the next step still runs
            failed = True
            console.print(f"[red]✗[/] {name}: {error}", soft_wrap=True)
    return 1 if failed else 0


def pool(name: str, description: str) -> str:
    """Create a pool of one slot; an existing pool keeps its size."""
    with create_session() as session:
        if Pool.get_pool(name, session=session) is not None:
            return "exists"
        Pool.create_or_update_pool(name, slots=1, description=description, include_deferred=False, session=session)
    return "created with one slot"


def connection(name: str, kind: str) -> str:
    """Create a connection from the environment unless it exists."""
    try:
        BaseHook.get_connection(name)
        return "exists"
    except AirflowNotFoundException:
        variable = f"{kind.upper()}_CONNECTION"
        value = os.environ.get(variable)
    if not value:
        raise LookupError(f"Airflow has no such connection: set {variable} and run again, for example {EXAMPLES[kind]}")
    made = Connection.from_json(value, conn_id=name) if value.lstrip().startswith("{") else Connection(name, uri=value)
    with create_session() as session:
        session.add(made)
    return f"created from {variable}"


def bucket(settings: config.Settings) -> str:
    """Create the bucket unless it exists."""
    client = connections.connect(settings).store.client
    names = [item["Name"] for item in client.list_buckets()["Buckets"]]
    if settings.store.bucket in names:
        return "exists"
    client.create_bucket(Bucket=settings.store.bucket)
    return "created"


def _connector(settings: config.Settings, kind: str) -> Callable[[], str]:
    return lambda: connection(getattr(settings.connections, kind), kind)


if __name__ == "__main__":
    sys.exit(main())
