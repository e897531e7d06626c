"""What every record is: a frozen dataclass that turns into plain JSON and back.

A record crosses XCom as the dict of `to_json`, with a schema number, because Airflow refuses to deserialise classes
that are not on its allow list.
"""

import threading
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from learning_engine.errors import LearningEngineError

SCHEMA = 1

_BUILDING = threading.Lock()
_built: dict[type[Any], TypeAdapter[Any]] = {}


class RecordError(LearningEngineError):
    """A stored record cannot be read by this version of the package."""


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Built once, and one at a time: for that pydantic parses signatures, and CPython 3.11 counts the depth of a parse
    in one place for all threads, so that two at once end in a SystemError.
    """
    with _BUILDING:
        if kind not in _built:
            _built[kind] = TypeAdapter(kind)
        return _built[kind]


class Record:
    """Mixin: a frozen dataclass that turns into a JSON dict and back."""

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return {"record": type(self).__name__, "schema": SCHEMA, **body}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises RecordError for whatever is no such record."""
        body = dict(data) if isinstance(data, dict) else {}
        name, schema = body.pop("record", None), body.pop("schema", None)
        if (name, schema) != (cls.__name__, SCHEMA):
            raise RecordError(
                f"Expected a {cls.__name__} record of schema {SCHEMA}, found {name!r} of schema {schema!r}: "
                "it was written by another version of learning_engine; clear the run from its first task."
            )
        try:
            record: Self = _adapter(cls).validate_python(body)
        except ValidationError as error:
            raise RecordError(f"Not a readable {cls.__name__} record: {error}") from error
        return record
