"""include/configs/learning-engine.yaml and docs/configuration.md match the code."""

import json
from typing import Any

import pytest
import yaml

from include.reference import configuration
from learning_engine import config
from learning_engine.errors import ConfigError
from tests.production.conftest import ROOT

FILE = ROOT / "include" / "configs" / "learning-engine.yaml"
SETTINGS = list(configuration.settings())


def flat(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves by path; a map that is itself a setting counts as a leaf."""
    leaves = {setting.path for setting in SETTINGS}
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        here = (*path, key)
        found |= flat(value, here) if isinstance(value, dict) and here not in leaves else {here: value}
    return found


def test_the_file_has_every_setting_with_the_default_of_the_code() -> None:
    written = flat(json.loads(json.dumps(yaml.safe_load(FILE.read_text()), default=str)))
    assert written == {setting.path: setting.default for setting in SETTINGS}


def test_the_file_loads() -> None:
    assert config.load().model_dump(mode="json", by_alias=True)["ewc"]["lambda"] == "auto"


def test_every_section_and_setting_has_a_comment() -> None:
    meanings = configuration.comments(FILE.read_text())
    for path in {setting.path for setting in SETTINGS} | {setting.path[:1] for setting in SETTINGS}:
        assert meanings[path], ".".join(path)
        assert meanings[path].endswith((".", "].", "'].")), ".".join(path)


def test_the_page_is_up_to_date() -> None:
    assert configuration.PAGE.read_text() == configuration.page(FILE.read_text()), "stale: run `make docs`"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_the_environment_variable_on_the_page_is_read(
    setting: configuration.Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting.default is not None:
        text = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
        monkeypatch.setenv(setting.variable, text)
        assert setting.path[0] in config.load().model_fields_set
    if not setting.bounds.startswith(("text", "list", "map")):
        monkeypatch.setenv(setting.variable, "\x01")
        with pytest.raises(ConfigError, match=".".join(setting.path)):
            config.load()
