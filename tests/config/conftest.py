"""A configuration file of the test's own, and the message of a refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from learning_engine import config
from learning_engine.config import settings as settings_file
from learning_engine.errors import ConfigError

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the YAML file in use; a key may be a dotted path."""
    path = tmp_path / "own.yaml"
    monkeypatch.setenv(config.FILE_VARIABLE, str(path))

    def write(values: dict[str, Any]) -> Path:
        tree: dict[str, Any] = {}
        for key, value in values.items():
            settings_file._put(tree, tuple(key.split(".")), value)
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        return path

    write({})
    return write


def variable(key: str) -> str:
    return config.PREFIX + key.replace(".", "__").upper()


def refusal(params: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        config.load(params)
    return str(raised.value)
