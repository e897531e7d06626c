"""docker-compose.airflow.yaml, as far as it can be checked without a Docker engine."""

import itertools
import re
from typing import Any

import pytest

from tests.production.conftest import COMPOSE, ROOT, VARIABLE, example

ROLES = {"init", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "gpu-worker"}
OTHERS = {"postgres", "feedback-db", "redis", "minio", "bucket", "max"}
ONE_SHOT = {"init", "bucket"}
# The keys of the compose specification that the file uses; a misspelt key fails the tests.
SERVICE_KEYS = {
    "image", "build", "user", "restart", "environment", "volumes", "depends_on", "command", "entrypoint", "ports",
    "healthcheck", "stop_grace_period", "shm_size", "deploy",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
SECRET = re.compile(r"PASSWORD|SECRET|FERNET|TOKEN|ACCESS_KEY|REDISCLI_AUTH")
CREDENTIALS = re.compile(r"://[^:/@]*:(?P<password>[^@]+)@")


def test_the_file_has_every_role_and_service(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == ROLES | OTHERS
    assert {key for key in compose if not key.startswith("x-")} == {"services", "volumes"}


@pytest.mark.parametrize("name", sorted(ROLES | OTHERS))
def test_a_service_uses_known_keys_a_pinned_image_and_a_healthcheck(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert set(service) <= SERVICE_KEYS
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}", tag), "expected a tag that names a version"
    assert set(service["healthcheck"]) <= HEALTHCHECK_KEYS
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert len(service["healthcheck"]["test"]) > 1
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


def test_a_service_starts_after_what_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how == {"condition": expected}, f"{name} on {needed}"
    assert all("init" in services[role]["depends_on"] for role in (*(ROLES - {"init"}), "max"))
    assert set(services["init"]["depends_on"]) == {"postgres", "redis", "feedback-db", "bucket"}


def test_volumes_are_declared_and_files_exist(compose: dict[str, Any]) -> None:
    named = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, _, options = volume.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert options.endswith(":ro"), "the repository is mounted for reading"
            else:
                named.add(source)
    assert named == set(compose["volumes"])


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports), "two services ask for one port"


def test_only_training_and_serving_reserve_a_gpu(services: dict[str, Any]) -> None:
    reserving = {name: service["deploy"] for name, service in services.items() if "deploy" in service}
    assert set(reserving) == {"gpu-worker", "max"}
    for deploy in reserving.values():
        (device,) = deploy["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        assert len(device["device_ids"]) == 1


def test_the_file_contains_no_secret(written: dict[str, Any]) -> None:
    for name, service in written["services"].items():
        for key, value in service.get("environment", {}).items():
            text = str(value)
            for found in CREDENTIALS.finditer(text):
                assert VARIABLE.fullmatch(found["password"]), f"{name}: {key}"
            for found in re.finditer(r'"(?:password|login)": "([^"]*)"', text):
                assert VARIABLE.fullmatch(found[1]) or found[1] == "feedback", f"{name}: {key}"
            if SECRET.search(key) and not key.startswith("AIRFLOW_CONN_"):
                assert VARIABLE.fullmatch(text), f"{name}: {key}"


def test_every_secret_must_be_filled_in() -> None:
    required = {match[1] for match in VARIABLE.finditer(COMPOSE.read_text()) if match[2] == ":?"}
    empty = {name for name, value in example().items() if not value}
    assert empty - {"HF_TOKEN"} <= required
    assert not [
        name for name, value in example().items() if value and SECRET.search(name) and name != "STORE_ACCESS_KEY"
    ]


def test_the_example_has_exactly_the_variables_of_the_file() -> None:
    assert {match[1] for match in VARIABLE.finditer(COMPOSE.read_text())} == set(example())


def test_the_file_and_the_example_have_the_same_defaults() -> None:
    for match in VARIABLE.finditer(COMPOSE.read_text()):
        if match[2] == ":-":
            assert example()[match[1]] == match[3], match[1]


def test_max_has_every_option_and_setting_that_lora_needs(services: dict[str, Any]) -> None:
    server = services["max"]
    words = server["command"]
    assert {"--enable-lora", "--no-enable-prefix-caching", "--prefer-module-v3", "--allow-cold-interpreter-cache"} <= {
        *words
    }
    options = dict(itertools.pairwise(words))
    airflow = services["worker"]["environment"]
    assert options["--model"] == airflow["LEARNING_ENGINE__MODEL__BASE"]
    assert options["--max-lora-rank"] == airflow["LEARNING_ENGINE__SERVING__MAX_LORA_RANK"]
    assert int(options["--max-num-loras"]) >= 3, "new, live and previous"
    assert server["environment"]["MAX_EAGER_EXECUTOR"] == "interpreter"
    assert server["environment"]["MAX_SERVE_DISABLE_TELEMETRY"] == "1"


def test_only_deploying_workers_can_write_to_the_adapter_directory_of_max(services: dict[str, Any]) -> None:
    mounts = {
        name: volume.split(":", 1)[1]
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if volume.startswith("adapters:")
    }
    assert mounts.pop("max").endswith(":ro")
    assert mounts == dict.fromkeys(("init", "worker"), "/var/lib/learning-engine/adapters")
