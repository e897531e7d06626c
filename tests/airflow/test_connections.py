"""Clients opened from Airflow connections, without a server."""

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from learning_engine import config
from learning_engine.airflow import connections
from learning_engine.errors import ConfigError
from learning_engine.feedback.source import FileSource, PostgresSource
from learning_engine.steps.resources import Resources

PASSWORD = r"correct 'horse' \battery=staple"


def connected(monkeypatch: pytest.MonkeyPatch, kind: str, **connection: Any) -> Resources:
    """Resources opened with `connection` as the configured connection of `kind`."""
    monkeypatch.setenv(f"LEARNING_ENGINE__CONNECTIONS__{kind.upper()}", f"my_{kind}")
    monkeypatch.setenv(f"AIRFLOW_CONN_MY_{kind.upper()}", json.dumps(connection))
    return connections.connect(config.load())


def serving(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> Resources:
    return connected(monkeypatch, "serving", conn_type="http", **connection)


def test_replicas_and_directories_come_from_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"replicas": ["http://a:8000", "https://b"], "adapter_dir": "/adapters", "server_adapter_dir": "/mnt/ad"}
    place = serving(monkeypatch, host="ignored", extra=extra).serving
    assert place.replicas == ("http://a:8000", "https://b")
    assert (place.adapter_dir, place.server_adapter_dir) == (Path("/adapters"), "/mnt/ad")


@pytest.mark.parametrize(
    ("connection", "replica"),
    [
        ({"host": "max"}, "http://max"),
        ({"host": "max", "port": 8000}, "http://max:8000"),
        ({"host": "max", "port": 8000, "schema": "https"}, "https://max:8000"),
        ({"host": "https://max"}, "https://max"),
        ({"host": "https://max", "port": 8443, "schema": "http"}, "https://max:8443"),
    ],
)
def test_without_replicas_the_connections_own_host_is_the_only_replica(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], replica: str
) -> None:
    place = serving(monkeypatch, **connection, extra={"adapter_dir": "/adapters"}).serving
    assert place.replicas == (replica,)
    assert place.server_adapter_dir == "/adapters"


@pytest.mark.parametrize(
    "connection",
    [
        {"host": "max"},
        {"host": "max", "extra": {"adapter_dir": ""}},
        {"extra": {"adapter_dir": "/adapters"}},
        {"extra": {"adapter_dir": "/adapters", "replicas": []}},
        {"extra": {"adapter_dir": "/adapters", "replicas": "http://max:8000"}},
        {"extra": {"adapter_dir": "/adapters", "replicas": ["http://max:8000", 8001]}},
        {"extra": {"adapter_dir": "/adapters", "replicas": {"url": "http://max:8000"}}},
    ],
)
def test_an_incomplete_serving_connection_is_named_with_the_extra_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any]
) -> None:
    resources = serving(monkeypatch, **connection, password=PASSWORD)
    with pytest.raises(ConfigError, match=r"my_serving.*\"replicas\".*\"adapter_dir\"") as raised:
        _ = resources.serving
    assert str(sorted(connection.get("extra", {}))) in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_the_database_comes_from_the_connection_and_its_password_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
        "options": "-c search_path=app",
        "cursor": "dictcursor",
    }
    source = connected(
        monkeypatch,
        "feedback",
        conn_type="postgres",
        host="db.example",
        port=5433,
        schema="app",
        login="reader",
        password=PASSWORD,
        extra=extra,
    ).open_feedback()
    assert isinstance(source, PostgresSource)
    assert conninfo_to_dict(source.conninfo) == {
        "host": "db.example",
        "port": "5433",
        "dbname": "app",
        "user": "reader",
        "password": PASSWORD,
        "application_name": "learning_engine",
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
        "options": "-c search_path=app",
    }
    assert "horse" not in repr(source)


def test_values_missing_from_the_database_connection_are_left_to_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    source = connected(monkeypatch, "feedback", conn_type="postgres", host="db").open_feedback()
    assert conninfo_to_dict(source.conninfo) == {"host": "db", "application_name": "learning_engine"}


def test_a_feedback_file_needs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__FEEDBACK__SOURCE", "file")
    monkeypatch.setenv("LEARNING_ENGINE__FEEDBACK__PATH", "/feedback.jsonl")
    assert connections.connect(config.load()).open_feedback() == FileSource(Path("/feedback.jsonl"))


def store_client(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> Any:
    return connected(
        monkeypatch,
        "store",
        conn_type="aws",
        login="access-key",
        password="secret-key",
        extra={"region_name": "eu-west-1", **extra},
    ).store.client


def test_the_store_uses_the_configured_time_outs_and_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CONNECT_TIMEOUT_SECONDS": 3, "READ_TIMEOUT_SECONDS": 7, "ATTEMPTS": 2}.items():
        monkeypatch.setenv(f"LEARNING_ENGINE__STORE__{name}", str(value))
    found = store_client(monkeypatch, config_kwargs={"read_timeout": 999, "max_pool_connections": 3}).meta.config
    assert (found.connect_timeout, found.read_timeout) == (3, 7)
    assert found.retries == {"mode": "standard", "total_max_attempts": 2}
    assert (found.request_checksum_calculation, found.response_checksum_validation) == ("when_required",) * 2
    assert found.max_pool_connections == 3, "other settings of the connection are kept"
    assert found.region_name == "eu-west-1"


@pytest.mark.parametrize(
    ("extra", "url"),
    [
        ({"endpoint_url": "http://minio.example:9000"}, "http://minio.example:9000/lora-adapters/key"),
        (
            {"endpoint_url": "http://minio.example:9000", "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
            "http://lora-adapters.minio.example:9000/key",
        ),
        (
            {"endpoint_url": "http://minio.example:9000", "config_kwargs": {"s3": {"payload_signing_enabled": True}}},
            "http://minio.example:9000/lora-adapters/key",
        ),
        ({}, "https://lora-adapters.s3.amazonaws.com/key"),
    ],
)
def test_the_addressing_style_depends_on_the_connection(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], url: str
) -> None:
    client = store_client(monkeypatch, **extra)
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "lora-adapters", "Key": "key"})
    assert signed.partition("?")[0] == url


def test_bucket_and_prefix_come_from_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__STORE__BUCKET", "own-bucket")
    monkeypatch.setenv("LEARNING_ENGINE__STORE__PREFIX", "tenant-a/")
    resources = connected(monkeypatch, "store", conn_type="aws", extra={"region_name": "eu-west-1"})
    assert resources.store.uri("adapters/v1.0") == "s3://own-bucket/tenant-a/adapters/v1.0"


def test_only_a_step_that_needs_a_connection_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.exceptions import AirflowNotFoundException

    resources = serving(monkeypatch, host="max", extra={"adapter_dir": "/adapters"})
    assert resources.serving.replicas == ("http://max",)
    with pytest.raises(AirflowNotFoundException, match="learning_engine_feedback"):
        resources.open_feedback()
