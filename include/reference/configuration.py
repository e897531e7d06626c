"""Writes docs/configuration.md: defaults and bounds from the code, meanings from the comments of the YAML file.

PYTHONPATH=plugins python -m include.reference.configuration
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from learning_engine.config import DEFAULT_FILE, PARAM_SETTINGS, PREFIX, Settings

PAGE = DEFAULT_FILE.parents[2] / "docs" / "configuration.md"
HEAD = """\
# Configuration

<!-- Written by `make docs` from learning_engine.config.sections and include/configs/learning-engine.yaml. -->

Every setting, with its default. `include/configs/learning-engine.yaml` holds them all; `LEARNING_ENGINE_CONFIG` names
another file. Over the file wins the environment variable, over that the param of one DAG run. Lists and maps are
written as JSON in the environment. A key that does not exist, or a value out of bounds, stops a run before any work
and is named with its bound.

Secrets stand in three Airflow connections and nowhere else: [installation](installation.md).
"""
KEY = re.compile(r"^( *)([A-Za-z_]+):(.*)$")
BOUNDS = {"ge": "≥ {:,}", "gt": "> {:,}", "le": "≤ {:,}", "lt": "< {:,}", "pattern": "`{}`"}


@dataclass(frozen=True)
class Setting:
    """One leaf of the configuration."""

    path: tuple[str, ...]
    default: Any
    bounds: str

    @property
    def variable(self) -> str:
        return PREFIX + "__".join(self.path).upper()

    @property
    def param(self) -> str | None:
        return next((name for name, target in PARAM_SETTINGS.items() if target == self.path), None)


def settings(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting of the code, in its order."""
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, here)
        else:
            default = json.loads(model.model_construct().model_dump_json(by_alias=True, include={name}))
            yield Setting(here, default[field.alias or name], _bounds(field))


def comments(text: str) -> dict[tuple[str, ...], str]:
    """The comment above each key of the YAML file, by the key's path; the file's head under ()."""
    found: dict[tuple[str, ...], str] = {}
    path: list[str] = []
    above: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            above.append(stripped.removeprefix("#").strip())
        elif match := KEY.match(line):
            path = [*path[: len(match[1]) // 2], match[2]]
            found[tuple(path)] = " ".join(above)
            above = []
        elif not stripped and not found:
            found[()] = " ".join(above)
            above = []
    return found


def page(text: str) -> str:
    """The whole of docs/configuration.md. Raises KeyError for a setting that the YAML file does not name."""
    meanings = comments(text)
    parts = [HEAD]
    tables: dict[str, list[Setting]] = {}
    for setting in settings():
        tables.setdefault(setting.path[0], []).append(setting)
    for section, rows in tables.items():
        parts.append(f"\n## {section}\n")
        if len(rows[0].path) > 1:
            parts.append(f"{meanings[(section,)]}\n")
        parts.append("| key | default | bounds | environment, param | meaning and trade-off |\n|---|---|---|---|---|")
        parts.extend(_row(setting, meanings[setting.path]) for setting in rows)
    return "\n".join(parts) + "\n"


def _row(setting: Setting, meaning: str) -> str:
    key = ".".join(setting.path[1:]) or setting.path[0]
    default = re.sub(r"\.0$", "", json.dumps(setting.default, ensure_ascii=False))
    where = f"`{setting.variable}`" + (f", param `{setting.param}`" if setting.param else "")
    cells = (f"`{key}`", f"`{default}`", setting.bounds, where, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _bounds(field: FieldInfo) -> str:
    """The type and its limits in words, such as `whole number, ≥ 1, ≤ 256` or `auto, cpu, cuda`."""
    described, metadata = _type(field.annotation)
    limits = [
        form.format(limit) if isinstance(limit, str) else form.format(limit).replace(",", " ")
        for item in (*_flat(metadata), *field.metadata)
        for name, form in BOUNDS.items()
        if (limit := getattr(item, name, None)) is not None
    ]
    return ", ".join([described, *limits])


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """What an `Annotated` says, the fields among it taken apart."""
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else (item,)


def _type(annotation: Any) -> tuple[str, tuple[Any, ...]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        described, metadata = _type(arguments[0])
        return described, (*metadata, *arguments[1:])
    if origin in (Union, UnionType):
        (inner, metadata), *others = (_type(item) for item in arguments if item is not NoneType)
        return " or ".join([inner, *(other for other, _ in others), *["null"] * (NoneType in arguments)]), metadata
    if origin is Literal:
        return " · ".join(f"`{value}`" for value in arguments), ()
    if origin is tuple:
        described, _ = _type(arguments[0])
        return f"list of {described}", ()
    if origin is dict:
        return "map", ()
    names = {bool: "true · false", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, getattr(annotation, "__name__", "text")), ()


def main() -> int:
    PAGE.write_text(page(Path(DEFAULT_FILE).read_text(encoding="utf-8")), encoding="utf-8")
    print(f"  {PAGE.name} is new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
