"""Writes docs/api.md: the REST API, from its own OpenAPI.

PYTHONPATH=plugins python -m include.reference.api
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
HEAD = """\
# REST API

<!-- Written by `make docs` from the OpenAPI that the api-server serves at /learning-engine/openapi.json. -->

{description}
All paths stand below `/learning-engine` of Airflow's api-server.

```bash
token=$(curl -s $AIRFLOW/auth/token -H 'Content-Type: application/json' \\
  -d '{{"username": "…", "password": "…"}}' | jq -r .access_token)
curl -s $AIRFLOW/learning-engine/adapters -H "Authorization: Bearer $token"
```
"""
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "`{}`",
    "format": "{}",
}

Schema = dict[str, Any]


def document() -> Schema:
    """The OpenAPI, without a server. Airflow is imported, with a home of its own, which must be empty of a database."""
    with tempfile.TemporaryDirectory(prefix="learning-engine-docs-") as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        logging.disable(logging.WARNING)
        from learning_engine.web import app

        return app.describe(app.build(None))


def page(api: Schema) -> str:
    """The whole of docs/api.md: the operations by tag, then the objects that they speak of."""
    parts = [HEAD.format(description=api["info"]["description"])]
    for tag in api["tags"]:
        parts.append(f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [part for path, method, one in _operations(api, tag["name"]) for part in _operation(path, method, one)]
    parts.append("\n## Objects\n")
    schemas = api["components"]["schemas"]
    parts += [part for name in sorted(schemas) for part in _object(name, schemas[name])]
    return "\n".join(parts).rstrip() + "\n"


def _operations(api: Schema, tag: str) -> Iterator[tuple[str, str, Schema]]:
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            # The last tag is the route's own, where it has one.
            if operation["tags"][-1] == tag:
                yield path, method.upper(), operation


def _operation(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield f"### `{method} {path}`\n\n{operation['description']}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for one in parameters:
            default = one["schema"].get("default")
            said = f"default `{json.dumps(default)}`" if default is not None else ""
            words = ". ".join(text for text in (one.get("description", "").rstrip("."), said) if text)
            yield _row(f"`{one['name']}`" + " *" * one.get("required", False), one["in"], _type(one["schema"]), words)
        yield ""
    if body := operation.get("requestBody"):
        yield f"Body: {_content(body)}" + ("" if body.get("required") else ", or none") + "\n"
    answers = (f"{status} {_content(answer)}".strip() for status, answer in operation["responses"].items())
    yield "Answers: " + " · ".join(answers) + "\n"


def _content(described: Schema) -> str:
    found = [
        _type(content["schema"]) if content.get("schema") else f"`{media}`"
        for media, content in described.get("content", {}).items()
    ]
    return ", ".join(dict.fromkeys(found))


def _object(name: str, schema: Schema) -> Iterator[str]:
    words = " ".join(str(schema.get("description", "")).split())
    yield f"### {name}\n\n{words}\n" if words else f"### {name}\n"
    for example in schema.get("examples", ()):
        yield f"```json\n{json.dumps(example, ensure_ascii=False)}\n```\n"
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        yield "| field | type | |\n|---|---|---|"
        for field, one in properties.items():
            yield _row(
                f"`{field}`" + " *" * (field in required), _type(one), " ".join(one.get("description", "").split())
            )
        yield ""


def _type(schema: Schema) -> str:
    """A schema in words, an object as a link to where it stands."""
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(option) for option in options)
    if "enum" in schema:
        return " · ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}" if "items" in schema else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    limits = [form.format(_figure(schema[key])) for key, form in LIMITS.items() if key in schema]
    return ", ".join([kind, *limits])


def _figure(limit: Any) -> str:
    return f"{limit:,.12g}".replace(",", " ") if isinstance(limit, int | float) else str(limit)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main() -> int:
    PAGE.write_text(page(document()), encoding="utf-8")
    print(f"  {PAGE.name} is new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
