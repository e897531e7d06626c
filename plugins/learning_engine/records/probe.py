"""Probes: prompts whose greedy continuation distinguishes a version's weights from its parent's and the base model's.

Evaluation finds them, the registry stores them as `probes.json`, and serving verifies replicas with them. Prompts and
texts may be user text, so they never appear in a record, an error message or a log.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from learning_engine.errors import IntegrityError

SCHEMA = 1


@dataclass(frozen=True)
class Probe:
    """`tokens` is the greedy continuation of `messages`, `text` its decoded form.

    `margin`, in nats, is how strongly the version prefers the token at which it diverges from its parent and the base.
    """

    messages: list[dict[str, str]]
    tokens: list[int]
    text: str
    margin: float


_PROBES = TypeAdapter(list[Probe])


def dump(probes: list[Probe]) -> bytes:
    """The bytes of `probes.json`, deterministic."""
    body = {"schema": SCHEMA, "probes": [asdict(probe) for probe in probes]}
    return json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def load(data: bytes) -> list[Probe]:
    """Parse `probes.json`. Raises IntegrityError, whose message never contains the content."""
    try:
        body: Any = json.loads(data)
        schema, probes = body["schema"], body["probes"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Expected probes as JSON, found {len(data)} bytes that are not ({type(error).__name__}): "
            "the object is corrupt; publish the version again."
        ) from None
    if schema != SCHEMA:
        raise IntegrityError(
            f"Expected probes of schema {SCHEMA}, found {schema!r}: another version of learning_engine wrote them."
        )
    try:
        return _PROBES.validate_python(probes)
    except ValidationError as error:
        places = ", ".join(".".join(str(part) for part in problem["loc"]) for problem in error.errors()[:4])
        raise IntegrityError(f"Expected probes of schema {SCHEMA}, found other types at {places}.") from None
