"""The raw row that every feedback source returns, and how thumb spellings are normalised."""

import re
import string
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from learning_engine.config.sections import Feedback

# `message` is used for ordering and deduplication; `superseded` marks all but a user's last vote on a message; `slices`
# has the columns that slices are read from.
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
        pa.field("slices", pa.string()),
    ]
)
WHITE_SPACE = " \t\n\r\f\v"
LONGEST_THUMB = 64
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
RUN_OF_SPACE = re.compile(f"[{WHITE_SPACE}]+")


class Raw(NamedTuple):
    """One row of SCHEMA. `created_at`: microseconds since 1970, None if the row has no readable time. `request` and
    `response`: JSON text, None if the column is NULL. `message`: None if the row is not readable. `slices`: a JSON
    object of the columns that slices are read from, None if there are none."""

    created_at: int | None
    message: str | None
    request: str | None
    response: str | None
    feedback_type: str | None
    user: str | None
    conversation: str | None
    superseded: bool
    slices: str | None = None


def ratings(feedback: Feedback) -> Mapping[str, int]:
    """Normalised spelling → 1 or -1. A spelling in both lists means thumbs down."""
    up = dict.fromkeys(map(fold, feedback.thumbs_up), 1)
    return up | dict.fromkeys(map(fold, feedback.thumbs_down), -1)


def fold(spelling: str) -> str:
    """Lower-case ASCII letters and collapse white space, exactly as the SQL does under any database collation."""
    return RUN_OF_SPACE.sub(" ", spelling[:LONGEST_THUMB].translate(LOWER)).strip(" ")
