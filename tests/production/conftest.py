"""Fixtures with the repository's production files."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.airflow.yaml"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?:(:[-?])([^}]*))?\}")


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(text: str, values: dict[str, str]) -> str:
    """Substitute the variables in `text` as Docker Compose does."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        found = values.get(name, "")
        assert found or operator == ":-", f"{name} has no value and no default"
        return found or word

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="session")
def filled_in() -> dict[str, str]:
    """.env as an operator fills it in."""
    return {name: value or f"filledin{name.lower().replace('_', '')}" for name, value in example().items()}


@pytest.fixture(scope="session")
def written() -> dict[str, Any]:
    """The compose file without substitution of variables."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


@pytest.fixture(scope="session")
def compose(filled_in: dict[str, str]) -> dict[str, Any]:
    """The compose file with substituted variables, as Docker Compose reads it."""
    loaded: dict[str, Any] = yaml.safe_load(interpolate(COMPOSE.read_text(), filled_in))
    return loaded


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found
