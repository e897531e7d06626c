"""The production file, as read by docker-compose and by MAX Serve's command line."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.setup.counterparts import MAX_ENVIRONMENT
from tests.production.conftest import COMPOSE, ROOT
from tests.programs import missing

pytestmark = pytest.mark.real


@pytest.fixture
def read(filled_in: dict[str, str], tmp_path: Path) -> Any:
    """Run `docker-compose config` with a filled-in .env, except the variables in `without`."""
    program = shutil.which("docker-compose") or missing("docker-compose is missing")
    file = tmp_path / "env"

    def call(*without: str) -> subprocess.CompletedProcess[str]:
        file.write_text("".join(f"{name}={value}\n" for name, value in filled_in.items() if name not in without))
        command = [str(program), "--file", COMPOSE, "--env-file", file, "config"]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin"}
        )

    return call


def test_docker_compose_reads_the_file(read: Any, compose: dict[str, Any]) -> None:
    done = read()
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == set(compose["services"])
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            assert value == str(compose["services"][name]["environment"][key]), f"{name}: {key}"


def test_docker_compose_refuses_a_missing_secret(read: Any) -> None:
    done = read("FERNET_KEY")
    assert done.returncode != 0
    assert "FERNET_KEY" in done.stderr
    assert ".env.example" in done.stderr


def test_max_knows_every_option(services: dict[str, Any]) -> None:
    program = MAX_ENVIRONMENT / "bin" / "max"
    if not program.exists():
        missing("MAX Serve is not installed")
    done = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, timeout=300)
    flags = [word for word in services["max"]["command"] if word.startswith("--")]
    assert flags
    assert not [flag for flag in flags if flag not in done.stdout]
