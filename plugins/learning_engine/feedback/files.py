"""Read feedback from a JSON-lines or Parquet file, with the semantics of the table. The file must fit in memory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from learning_engine.config.sections import Feedback
from learning_engine.errors import FeedbackError
from learning_engine.feedback import raw, slices
from learning_engine.feedback.canonical import canonical, escape_surrogates, message_digest, parse
from learning_engine.feedback.raw import Raw
from learning_engine.records.contracts import Window

LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
BATCH_ROWS = 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# Stands for a line that is not a JSON object or is nested too deeply. Its request is not JSON, so cleaning drops it.
UNREADABLE = Raw(None, None, "", None, None, None, None, False)


@dataclass(frozen=True)
class FileSource:
    """A file of JSON lines (.jsonl, .ndjson) or Parquet (.parquet, .pq) with the same columns as the table."""

    path: Path


def read(source: FileSource, window: Window, feedback: Feedback) -> Iterator[pa.RecordBatch]:
    """Yield the rows in [window.start, window.end), ordered by (created_at, message, user), in batches of raw.SCHEMA.

    Times without a zone are UTC; a row without a time belongs to no window. A line that is not a JSON object or whose
    time is not ISO 8601 may belong to any window, so every window returns it, and cleaning drops it with its reason.
    Raises FeedbackError if the file or one of its columns is missing.
    """
    rows = [row for record in _records(source.path, feedback) if (row := _row(record, feedback, window))]
    rows = sorted(_superseded(rows, raw.ratings(feedback)), key=_order)
    for start in range(0, len(rows), BATCH_ROWS):
        values = zip(*rows[start : start + BATCH_ROWS], strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(values, raw.SCHEMA, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=raw.SCHEMA)


def _records(path: Path, feedback: Feedback) -> Iterator[dict[str, Any] | None]:
    """One dict per row; None for a line that cannot be read."""
    if path.suffix not in LINES + PARQUET:
        raise FeedbackError(f"Expected feedback.path to end with {', '.join(LINES + PARQUET)}, found {path.suffix!r}.")
    try:
        yield from _parquet(path, feedback) if path.suffix in PARQUET else _lines(path, feedback)
    except (OSError, pa.ArrowException) as error:
        raise FeedbackError(
            f"Expected a readable {path.suffix} file at {path}, found {type(error).__name__}: check feedback.path."
        ) from error


def _parquet(path: Path, feedback: Feedback) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        _check_columns(path, feedback, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH_ROWS, columns=sorted(slices.wanted(feedback))):
            columns = [_microseconds(column) for column in batch.columns]
            yield from pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()


def _microseconds(column: pa.Array) -> pa.Array:
    if not pa.types.is_timestamp(column.type):
        return column
    return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)


def _lines(path: Path, feedback: Feedback) -> Iterator[dict[str, Any] | None]:
    found: dict[str, None] = {}
    with path.open("rb") as file:
        for line in filter(None, map(bytes.strip, file)):
            record = _line(line)
            found |= dict.fromkeys(record or ())
            yield record
    if found:
        _check_columns(path, feedback, found)


def _line(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _check_columns(path: Path, feedback: Feedback, found: Iterable[str]) -> None:
    if missing := sorted(slices.wanted(feedback) - set(found)):
        raise FeedbackError(
            f"Expected the columns {', '.join(missing)} in {path}, found {', '.join(found)}: "
            f"{slices.advice(missing, feedback)}."
        )


def _row(record: dict[str, Any] | None, feedback: Feedback, window: Window) -> Raw | None:
    """The raw row; None if it lies outside the window."""
    if record is None:
        return UNREADABLE
    columns = feedback.columns
    value = record.get(columns.created_at)
    if value is None:
        return None
    try:
        time = _time(value)
    except (ValueError, TypeError, OverflowError):
        time = None
    if time and not window.start <= time < window.end:
        return None
    try:
        request, response = canonical(record.get(columns.request)), canonical(record.get(columns.response))
        sliced = {name: record.get(name) for name in slices.columns(feedback)}
        sliced_text = canonical(sliced) if sliced else None
    except RecursionError:
        return UNREADABLE
    return Raw(
        created_at=(time - EPOCH) // MICROSECOND if time else None,
        message=message_digest(request, response),
        request=request,
        response=response,
        feedback_type=_text(record, columns.feedback_type),
        user=_text(record, columns.user),
        conversation=_text(record, columns.conversation),
        superseded=False,
        slices=sliced_text,
    )


def _time(value: Any) -> datetime:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _text(record: dict[str, Any], column: str | None) -> str | None:
    value = record.get(column) if column else None
    if value is None:
        return None
    return escape_surrogates(value) if isinstance(value, str) else canonical(value)


def _order(row: Raw) -> tuple[Any, ...]:
    return (row.created_at or 0, row.message or "", row.user is None, row.user or "")


def _superseded(rows: list[Raw], ratings: Mapping[str, int]) -> Iterator[Raw]:
    """Mark all but each user's last vote with a known spelling on a message, as the SQL window function does."""
    last: dict[tuple[str | None, str | None], tuple[Any, ...]] = {}
    votes = set()
    for position, row in enumerate(rows):
        rating = ratings.get(raw.fold(row.feedback_type or ""))
        if rating is None or row.created_at is None:
            continue
        votes.add(position)
        rank = (-row.created_at, rating, row.conversation is None, row.conversation or "", position)
        key = (row.message, row.user)
        last[key] = min(rank, last.get(key, rank))
    votes -= {rank[-1] for rank in last.values()}
    for position, row in enumerate(rows):
        yield row._replace(superseded=position in votes)
