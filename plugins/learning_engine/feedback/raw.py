"""The raw row: what every source of feedback gives, and how a spelling of a thumb is read."""

import re
import string
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from learning_engine.config.sections import Feedback

# `message` orders and deduplicates; `superseded` marks every vote of one user on one message but the last.
SCHEMA = pa.schema(
    [
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
        pa.field("message", pa.string()),
        pa.field("request", pa.string()),
        pa.field("response", pa.string()),
        pa.field("feedback_type", pa.string()),
        pa.field("user", pa.string()),
        pa.field("conversation", pa.string()),
        pa.field("superseded", pa.bool_()),
    ]
)
WHITE_SPACE = " \t\n\r\f\v"
LONGEST_THUMB = 64
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
RUN_OF_SPACE = re.compile(f"[{WHITE_SPACE}]+")


class Raw(NamedTuple):
    """One row of SCHEMA. `created_at` in microseconds since 1970, None where the row has no readable time; `request`
    and `response` are JSON text, None where the column is NULL; `message` None where the row is not readable."""

    created_at: int | None
    message: str | None
    request: str | None
    response: str | None
    feedback_type: str | None
    user: str | None
    conversation: str | None
    superseded: bool


def ratings(feedback: Feedback) -> Mapping[str, int]:
    """Folded spelling → 1 or -1. A spelling in both lists is a thumb down."""
    up = dict.fromkeys(map(fold, feedback.thumbs_up), 1)
    return up | dict.fromkeys(map(fold, feedback.thumbs_down), -1)


def fold(spelling: str) -> str:
    """Case of ASCII and white space folded, exactly as the SQL does it under any collation of the database."""
    return RUN_OF_SPACE.sub(" ", spelling[:LONGEST_THUMB].translate(LOWER)).strip(" ")
