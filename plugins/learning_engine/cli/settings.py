"""The commands `config show` and `check`: this machine's settings from file and environment. Needs no server."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from learning_engine.cli import exit_codes, options
from learning_engine.cli.output import say, write
from learning_engine.errors import ConfigError


def show(as_json: options.Json = False) -> None:
    """Print all settings as YAML.

    A comment names the origin of each changed setting. Exits with 1 if the settings are invalid.
    """
    from learning_engine import config

    try:
        settings = config.load()
    except ConfigError as error:
        _invalid(error)
    values = settings.model_dump(mode="json", by_alias=True)
    defaults = config.Settings.model_construct().model_dump(mode="json", by_alias=True)
    origins = {
        path: _origin(path, config.PREFIX, str(config.config_file()))
        for path, value in _leaves(values)
        if value != _at(defaults, path)
    }
    if as_json:
        named = {".".join(path): origin for path, origin in origins.items()}
        body = {"file": str(config.config_file()), "settings": values, "origins": named}
        write(json.dumps(body, ensure_ascii=False).encode())
    else:
        write("\n".join(_yaml(values, (), origins)).encode())


def check(as_json: options.Json = False) -> None:
    """Validate the settings.

    Names each invalid key with its value and bounds, and exits with 1.
    """
    from learning_engine import config

    file = str(config.config_file())
    try:
        config.load()
    except ConfigError as error:
        if as_json:
            write(json.dumps({"file": file, "valid": False, "problems": str(error).splitlines()}).encode())
        _invalid(error)
    if as_json:
        write(json.dumps({"file": file, "valid": True, "problems": []}).encode())
    variables = sum(name.upper().startswith(config.PREFIX) for name in os.environ)
    say(f"Valid: {file}, overridden by {variables} environment variables.", style="green")


def _invalid(error: ConfigError) -> Any:
    say(str(error), style="red")
    raise typer.Exit(exit_codes.FAILED) from error


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting with its path. A setting of type map may have keys that the defaults lack."""
    for name, value in tree.items():
        here = (*path, name)
        if isinstance(value, dict) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _origin(path: tuple[str, ...], prefix: str, file: str) -> str:
    """The environment variable that sets the value, directly or inside JSON; else the file."""
    present = {name.upper(): name for name in os.environ}
    for length in range(len(path), 0, -1):
        name = present.get(prefix + "__".join(path[:length]).upper())
        if name and (length == len(path) or _holds(os.environ[name], path[length:])):
            return name
    return file


def _holds(text: str, path: tuple[str, ...]) -> bool:
    try:
        tree = json.loads(text)
        for name in path:
            tree = tree[name]
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _yaml(tree: Mapping[str, Any], path: tuple[str, ...], origins: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """The settings as lines of YAML, in the layout of the configuration file."""
    for name, value in tree.items():
        here, indent = (*path, name), "  " * len(path)
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _yaml(value, here, origins)
        else:
            comment = f"  # {origins[here]}" if here in origins else ""
            yield f"{indent}{name}: {_scalar(value)}{comment}"


def _scalar(value: Any) -> str:
    # JSON is valid YAML on one line, and always quotes strings.
    return json.dumps(value, ensure_ascii=False)
