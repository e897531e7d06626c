"""The base of every record: a frozen dataclass that converts to plain JSON and back.

XComs hold records as the dict of `to_json`, which includes a schema number, because Airflow refuses to deserialise
classes that are not on its allow list.
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
    """The TypeAdapter of `kind`, cached and built by one thread at a time.

    Building one makes pydantic parse signatures. CPython 3.11 keeps one parser depth counter for all threads, so
    concurrent parses can raise SystemError.
    """
    with _BUILDING:
        if kind not in _built:
            _built[kind] = TypeAdapter(kind)
        return _built[kind]


class Record:
    """Mixin that converts a frozen dataclass to a JSON dict and back."""

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return {"record": type(self).__name__, "schema": SCHEMA, **body}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Raises RecordError if `data` is not a record of this class and schema."""
        body = dict(data) if isinstance(data, dict) else {}
        name, schema = body.pop("record", None), body.pop("schema", None)
        if (name, schema) != (cls.__name__, SCHEMA):
            raise RecordError(
                f"Expected a {cls.__name__} record of schema {SCHEMA}, found {name!r} of schema {schema!r}: "
                "another version of learning_engine wrote it; clear the run from its first task."
            )
        try:
            record: Self = _adapter(cls).validate_python(body)
        except ValidationError as error:
            raise RecordError(f"Not a readable {cls.__name__} record: {error}") from error
        return record
