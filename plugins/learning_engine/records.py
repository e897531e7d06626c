"""What every record is: a frozen dataclass that turns into plain JSON and back.

A record crosses XCom as the dict of `to_json`, with a schema number, because Airflow refuses to deserialise classes
that are not on its allow list.
"""

from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from learning_engine.errors import LearningEngineError

SCHEMA = 1


class RecordError(LearningEngineError):
    """A stored record cannot be read by this version of the package."""


class Record:
    """Mixin: a frozen dataclass that turns into a JSON dict and back."""

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {"record": type(self).__name__, "schema": SCHEMA, **body}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        body = dict(data)
        name, schema = body.pop("record", None), body.pop("schema", None)
        if (name, schema) != (cls.__name__, SCHEMA):
            raise RecordError(
                f"Expected a {cls.__name__} record of schema {SCHEMA}, found {name!r} of schema {schema!r}: "
                "it was written by another version of learning_engine; clear the run from its first task."
            )
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            raise RecordError(f"Not a readable {cls.__name__} record: {error}") from error
