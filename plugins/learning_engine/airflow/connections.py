"""Open the steps' resources from Airflow connections. Called by the tasks.

Secrets come only from connections and are passed only to clients.
"""

from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

from learning_engine.config import Settings
from learning_engine.errors import ConfigError
from learning_engine.steps.resources import Resources, ServingPlace


def connect(settings: Settings) -> Resources:
    """The resources for `settings`. Clients are created on first use, so a worker needs only its step's connections."""
    return Resources(
        settings=settings,
        open_store=lambda: _store(settings),
        open_feedback=lambda: _feedback(settings),
        open_serving=lambda: _serving(settings),
    )


def _store(settings: Settings) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from learning_engine.registry.store import Store, client_config

    hook = S3Hook(aws_conn_id=settings.connections.store)
    configured = S3Hook(aws_conn_id=settings.connections.store, config=client_config(settings.store, hook.config))
    return Store(configured.get_conn(), settings.store.bucket, settings.store.prefix)


def _feedback(settings: Settings) -> Any:
    from learning_engine.feedback.source import FileSource, PostgresSource

    if settings.feedback.source == "file":
        return FileSource(Path(str(settings.feedback.path)))
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import Conninfo

    # Pass on the extras that libpq accepts (sslmode, options, target_session_attrs, …), as the hook itself does.
    libpq = {option.keyword.decode() for option in Conninfo.get_defaults()}
    connection = PostgresHook().get_connection(settings.connections.feedback)
    parts = {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.schema,
        "user": connection.login,
        "password": connection.password,
        "application_name": "learning_engine",
        **{key: value for key, value in connection.extra_dejson.items() if key in libpq},
    }
    return PostgresSource(make_conninfo("", **{key: value for key, value in parts.items() if value is not None}))


def _serving(settings: Settings) -> ServingPlace:
    name = settings.connections.serving
    connection = BaseHook.get_connection(name)
    extra = connection.extra_dejson
    replicas = extra.get("replicas") or _address(connection)
    adapter_dir = extra.get("adapter_dir")
    listed = isinstance(replicas, list) and all(isinstance(replica, str) for replica in replicas)
    if not replicas or not listed or not adapter_dir:
        raise ConfigError(
            f"Expected the connection {name} to have the extra "
            '{"replicas": ["http://host:8000"], "adapter_dir": "/path/on/the/worker", '
            '"server_adapter_dir": "/the/same/path/as/the/server/sees/it"}, '
            f"found the keys {sorted(extra)}: run `make init` with SERVING_CONNECTION set, or edit the connection."
        )
    return ServingPlace(
        replicas=tuple(replicas),
        adapter_dir=Path(adapter_dir),
        server_adapter_dir=str(extra.get("server_adapter_dir") or adapter_dir),
    )


def _address(connection: Any) -> list[str]:
    """The connection's own host as the only replica, in the forms that Airflow's HTTP connections accept."""
    if not connection.host:
        return []
    host = connection.host if "://" in connection.host else f"{connection.schema or 'http'}://{connection.host}"
    return [f"{host}:{connection.port}" if connection.port else host]
