"""Every variable in docker-compose.airflow.yaml is read by a program and has a valid value."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from learning_engine import config
from learning_engine.airflow import connections
from tests.production.conftest import COMPOSE

# Variables that the images' own programs read.
FOREIGN = {
    "PYTHONPATH", "HF_HOME", "HF_TOKEN", "DUMB_INIT_SETSID", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD",
    "REDISCLI_AUTH", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MAX_EAGER_EXECUTOR", "MAX_SERVE_DISABLE_TELEMETRY",
    "MODULAR_CACHE_DIR",
}  # fmt: skip
ROLES = ("init", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "gpu-worker")


def variables(services: dict[str, Any], prefix: str) -> dict[str, str]:
    return {
        key: value for role in ROLES for key, value in services[role]["environment"].items() if key.startswith(prefix)
    }


@pytest.fixture
def settings(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    for key, value in variables(services, "LEARNING_ENGINE").items():
        monkeypatch.setenv(key, value)
    return config.load()


def test_learning_engine_variables_are_settings(services: dict[str, Any], settings: config.Settings) -> None:
    for key, value in variables(services, config.PREFIX).items():
        found: Any = settings
        for part in key.removeprefix(config.PREFIX).lower().split("__"):
            assert isinstance(found, BaseModel)
            assert part in type(found).model_fields, key
            found = getattr(found, part)
        assert (found.get_secret_value() if isinstance(found, SecretStr) else str(found)) == value, key


def test_airflow_variables_are_options_of_airflow_and_its_providers(services: dict[str, Any]) -> None:
    from airflow.configuration import retrieve_configuration_description

    described = retrieve_configuration_description(include_providers=True)
    for key in variables(services, "AIRFLOW__"):
        section, option = key.removeprefix("AIRFLOW__").lower().split("__")
        assert option in described[section]["options"], key


def test_every_other_variable_is_read_by_its_service(services: dict[str, Any]) -> None:
    prefixes = (config.PREFIX, "AIRFLOW__", "AIRFLOW_CONN_")
    for name, service in services.items():
        script = json.dumps(service.get("command", service.get("entrypoint", "")))
        for key in service.get("environment", {}):
            if not key.startswith(prefixes) and key not in FOREIGN:
                assert f"$${key}" in script, f"{name}: {key}"


def test_every_role_sees_the_same_settings(services: dict[str, Any]) -> None:
    prefixes = (config.PREFIX, "AIRFLOW__", "AIRFLOW_CONN_")
    seen = [
        {key: value for key, value in services[role]["environment"].items() if key.startswith(prefixes)}
        for role in ROLES
    ]
    assert all(each == seen[0] for each in seen)


def test_the_connections_are_those_that_the_package_uses(
    services: dict[str, Any], settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import Connection

    found = variables(services, "AIRFLOW_CONN_")
    assert {key.removeprefix("AIRFLOW_CONN_").lower() for key in found} == {*settings.connections.model_dump().values()}
    for key, value in found.items():
        monkeypatch.setenv(key, value)
        assert Connection.from_json(value, conn_id="any").conn_type in {"postgres", "aws", "http"}
    resources = connections.connect(settings)
    assert resources.store.client.meta.endpoint_url == "http://minio:9000"
    assert resources.serving.replicas == ("http://max:8000",)
    mounts = {name: services[name]["volumes"] for name in ("worker", "max")}
    assert f"adapters:{resources.serving.adapter_dir}" in mounts["worker"]
    assert f"adapters:{resources.serving.server_adapter_dir}:ro" in mounts["max"]
    assert any(Path(settings.store.spool) == Path(volume.split(":")[1]) for volume in mounts["worker"])


def test_each_queue_has_a_worker(services: dict[str, Any], settings: config.Settings) -> None:
    commands = {name: services[name]["command"] for name in ("worker", "gpu-worker")}
    assert commands["gpu-worker"].startswith("celery worker -q gpu ")
    assert settings.dag.train_queue == "gpu"
    queues = re.search(r"--queues (\S+)", commands["worker"])
    assert queues
    assert {settings.dag.queue, settings.dag.deploy_queue} == {*queues[1].split(",")}


def test_time_outs_of_broker_and_scheduler_exceed_the_longest_task(
    services: dict[str, Any], settings: config.Settings
) -> None:
    environment = services["scheduler"]["environment"]
    longest = settings.dag.train_timeout_minutes * 60
    assert int(environment["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]) > longest
    assert int(environment["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"]) > longest


def test_health_checks_use_existing_apps_and_job_types() -> None:
    text = COMPOSE.read_text()
    module, _, attribute = re.findall(r"celery --app (\S+)", text)[0].rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
    from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    known = {DagProcessorJobRunner.job_type, TriggererJobRunner.job_type}
    assert known == {*re.findall(r"--job-type (\w+)", text)}
