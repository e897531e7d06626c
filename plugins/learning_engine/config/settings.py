"""The effective configuration: the environment overrides the YAML file, and a DAG run's params override both.

Called by the DAG files at parse time and by every task at run time. Imports nothing heavy.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from learning_engine.config import fields, sections
from learning_engine.errors import ConfigError

FILE_VARIABLE = "LEARNING_ENGINE_CONFIG"
PREFIX = "LEARNING_ENGINE__"
DEFAULT_FILE = Path(__file__).resolve().parents[3] / "include" / "configs" / "learning-engine.yaml"

# Each DAG param with the setting that it overrides. The other params (window, force) are not settings.
PARAM_SETTINGS = {
    "min_samples": ("feedback", "min_samples"),
    "ewc_lambda": ("ewc", "lambda"),
    "epochs": ("training", "epochs"),
    "learning_rate": ("training", "learning_rate"),
    "base_model": ("model", "base"),
    "deploy": ("deploy",),
}
# Settings whose values must not appear in messages.
SECRETS = {("web", "token")}
# The sections that a trained adapter and its verdict depend on. The others do not affect the run key.
FINGERPRINTED = ("dataset", "model", "lora", "fisher", "ewc", "training", "evaluation", "gate")


class Settings(BaseSettings):
    """Every setting, validated; frozen."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        extra="forbid",
        frozen=True,
        yaml_file_encoding="utf-8",
    )

    dag: sections.Dag = sections.Dag()
    connections: sections.Connections = sections.Connections()
    window: sections.WindowSection = sections.WindowSection()
    feedback: sections.Feedback = sections.Feedback()
    dataset: sections.Dataset = sections.Dataset()
    model: sections.Model = sections.Model()
    lora: sections.Lora = sections.Lora()
    fisher: sections.Fisher = sections.Fisher()
    ewc: sections.Ewc = sections.Ewc()
    training: sections.Training = sections.Training()
    evaluation: sections.Evaluation = sections.Evaluation()
    gate: sections.Gate = sections.Gate()
    worker: sections.Worker = sections.Worker()
    store: sections.Store = sections.Store()
    retention: sections.Retention = sections.Retention()
    serving: sections.Serving = sections.Serving()
    watch: sections.Watch = sections.Watch()
    web: sections.Web = sections.Web()
    deploy: Literal["auto", "approve", "never"] = "auto"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=config_file())

    @model_validator(mode="after")
    def _drain_fits(self) -> "Settings":
        limit = self.dag.step_timeout_minutes * 60
        if self.serving.drain_seconds >= limit:
            raise ValueError(f"serving.drain_seconds must be below dag.step_timeout_minutes, {limit:g} s")
        return self

    def fingerprint(self) -> dict[str, Any]:
        """The sections that a trained adapter and its verdict depend on, as JSON."""
        return self.model_dump(mode="json", include=set(FINGERPRINTED), by_alias=True)


def config_file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)


def load(params: Mapping[str, Any] | None = None) -> Settings:
    """Load YAML, environment and `params`. Raises ConfigError naming each bad key with its value and bound."""
    path = config_file()
    if not path.is_file():
        raise ConfigError(f"Expected the configuration file {path}, found none: set {FILE_VARIABLE} or mount include/.")
    _refuse_unknown_environment()
    overrides: dict[str, Any] = {}
    for name, value in (params or {}).items():
        if value is not None and (target := PARAM_SETTINGS.get(name)):
            _put(overrides, target, value)
    try:
        settings = Settings(**overrides)
        if overrides.get("model") and settings.model.base != Settings().model.base:
            # The configured revision belongs to the configured model only.
            settings = Settings(**{**overrides, "model": {**overrides["model"], "revision": None}})
        return settings
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, params or {}) for problem in error.errors())) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path}, or a {PREFIX}… variable that overrides it: {error}") from error


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _refuse_unknown_environment() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(PREFIX) and (section := name[len(PREFIX) :].split("__")[0]) not in known:
            raise ConfigError(
                f"{variable} names no section of the configuration: expected one of {', '.join(sorted(known))}, "
                f"found {section}; correct or unset the variable."
            )


def _explain(problem: Any, params: Mapping[str, Any]) -> str:
    path = tuple(str(part) for part in problem["loc"] if part != fields.NUMBER)
    key = ".".join(path)
    present = {variable.upper() for variable in os.environ}
    candidates = (PREFIX + "__".join(path[:length]).upper() for length in range(len(path), 0, -1))
    variable = next((candidate for candidate in candidates if candidate in present), None)
    origin = f"the environment variable {variable}" if variable else f"the file {config_file()}"
    for name, target in PARAM_SETTINGS.items():
        if target == path and params.get(name) is not None:
            origin = f"the run's param {name!r}"
    reason: str = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and isinstance(
        problem["input"], dict
    ):  # a rule across several settings: its message already names them
        return reason
    found = f"a text of {len(str(problem['input']))} characters" if path in SECRETS else repr(problem["input"])
    return f"{key}: {reason}; found {found} in {origin}"
