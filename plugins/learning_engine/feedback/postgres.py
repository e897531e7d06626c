"""Read feedback from PostgreSQL (11 or later) as Arrow record batches over COPY, in constant memory.

COPY takes no parameters, so the window and the thumb spellings are passed as transaction settings (`set_config`) and
read with `current_setting`. Identifiers are quoted. The transaction is read-only and needs only SELECT.
"""

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from adbc_driver_postgresql import StatementOptions, dbapi

from learning_engine.config.sections import Feedback
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback import raw, slices
from learning_engine.records.contracts import Window

BATCH_BYTES = 4 * 1024**2
LONGEST_CONNECT_SECONDS = 30
# Prefixes of libpq's errors about malformed parameters; these quote the parameters, possibly including the password.
MALFORMED = ("invalid ", "missing ", "unterminated ")
# Prefixes of libpq's errors that hold no secret and can be shown.
SAFE_TO_SHOW = ("connection to server", "could not translate host name")
# SQLSTATE classes for which a retry can help: connection, resources, shutdown or cancellation, system error, deadlock.
TRANSIENT = ("08", "53", "57", "58", "40")
NAIVE, AWARE = "timestamp without time zone", "timestamp with time zone"
TEXTS = ("json", "text", "character varying", "character")


@dataclass(frozen=True)
class PostgresSource:
    """`conninfo` is a libpq connection string, `host=… dbname=…` or a `postgresql://` URI; it may hold a password."""

    conninfo: str = field(repr=False)


def read(source: PostgresSource, window: Window, feedback: Feedback) -> Iterator[pa.RecordBatch]:
    """Yield the rows in [window.start, window.end), ordered by (created_at, message, user), in batches of raw.SCHEMA.

    `message` is the sha256 of PostgreSQL's text for the jsonb array [request, response]. For text and json columns the
    text itself counts, so two spellings of the same JSON are two messages. Among votes with a known spelling, only the
    last one per message and user is not `superseded` (at the same instant: the thumbs down). Raises
    FeedbackUnavailable (database down, refusing, too slow) or FeedbackError (wrong table, column or type).
    """
    with _cursor(source, feedback.timeout_seconds) as cursor, _sql_errors():
        cursor.execute(
            "SELECT set_config('statement_timeout', $1, true), set_config('transaction_read_only', 'on', true), "
            "set_config('learning_engine.window_start', $2, true), "
            "set_config('learning_engine.window_end', $3, true), set_config('learning_engine.ratings', $4, true)",
            (
                str(math.ceil(feedback.timeout_seconds * 1000)),
                window.start.isoformat(),
                window.end.isoformat(),
                json.dumps(raw.ratings(feedback)),
            ),
        )
        cursor.fetchall()
        types = _column_types(cursor, feedback)
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)})
        cursor.execute(_select(feedback, types))
        for batch in cursor.fetch_record_batch():
            yield pa.RecordBatch.from_arrays(batch.columns, schema=raw.SCHEMA)


@contextmanager
def _cursor(source: PostgresSource, timeout_seconds: float) -> Iterator[Any]:
    try:
        connection = dbapi.connect(_with_timeouts(source.conninfo, timeout_seconds))
    except dbapi.Error as error:
        reason = str(error).partition("Failed to connect: ")[2]
        if reason.startswith(MALFORMED):
            raise FeedbackError(
                "Expected valid PostgreSQL connection parameters, found some that libpq cannot read: "
                "check host, port, database and extras of the feedback connection."
            ) from None
        known = reason.splitlines()[0] if reason.startswith(SAFE_TO_SHOW) else "libpq could not connect"
        raise FeedbackUnavailable(
            f"Expected to connect to the feedback database, but failed: {known}. "
            "Check that it is running and that the feedback connection is correct."
        ) from None
    with closing(connection), closing(connection.cursor()) as cursor:
        yield cursor


def _with_timeouts(conninfo: str, timeout_seconds: float) -> str:
    """`conninfo` with a connect timeout and keep-alives, so that a dead server is noticed within a minute."""
    options = {
        "connect_timeout": str(max(2, math.ceil(min(timeout_seconds, LONGEST_CONNECT_SECONDS)))),
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "client_encoding": "UTF8",
        "application_name": "learning_engine",
    }
    if conninfo.startswith(("postgresql://", "postgres://")):
        extra = "&".join(f"{key}={value}" for key, value in options.items())
        return f"{conninfo}{'&' if '?' in conninfo else '?'}{extra}"
    return f"{conninfo} {' '.join(f'{key}={value}' for key, value in options.items())}"


@contextmanager
def _sql_errors() -> Iterator[None]:
    """Translate the driver's errors. The server's message may quote a row, so only its SQLSTATE is passed on."""
    try:
        yield
    except dbapi.Error as error:
        state = error.sqlstate or ""
        if not state or state.startswith(TRANSIENT):
            raise FeedbackUnavailable(
                f"Expected feedback rows, but the query failed (SQLSTATE {state or 'unknown'}): "
                "see the database's log; feedback.timeout_seconds limits each statement."
            ) from None
        hint = "grant SELECT on the table" if state == "42501" else "see the database's log"
        raise FeedbackError(f"Expected feedback rows, but PostgreSQL refused with SQLSTATE {state}: {hint}.") from None
    except OSError as error:
        slow = "statement timeout" in str(error)
        raise FeedbackUnavailable(
            "Expected all rows of the window, but the "
            + (
                "query took longer than feedback.timeout_seconds: raise it, or index created_at."
                if slow
                else "connection was lost: see the database's log."
            )
        ) from None


def _column_types(cursor: Any, feedback: Feedback) -> dict[str, str]:
    cursor.execute(
        "SELECT a.attname::text, format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
        "WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        (feedback.db_schema, feedback.table),
    )
    types: dict[str, str] = dict(cursor.fetchall())
    name = f"{feedback.db_schema}.{feedback.table}"
    if not types:
        raise FeedbackError(
            f"Expected a table {name}, found none: set feedback.db_schema and feedback.table, "
            "or create it with include/sql/feedback.sql."
        )
    columns = feedback.columns
    missing = sorted(slices.wanted(feedback) - types.keys())
    if missing:
        raise FeedbackError(
            f"Expected the columns {', '.join(missing)} in {name}, found {', '.join(types)}: "
            f"{slices.advice(missing, feedback)}."
        )
    _check_type(columns.created_at, types, (NAIVE, AWARE))
    for column in (columns.request, columns.response):
        _check_type(column, types, ("jsonb", *TEXTS))
    return types


def _check_type(column: str, types: dict[str, str], expected: tuple[str, ...]) -> None:
    if types[column] not in expected:
        raise FeedbackError(
            f"Expected column {column} to be one of {', '.join(expected)}, found {types[column]}: set feedback.columns."
        )


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _json(column: str, types: dict[str, str]) -> str:
    if types[column] == "jsonb":
        return _quote(column)
    text = _text(column)
    return f"to_jsonb(NULLIF({text}, 'null'))" if types[column] == "json" else f"to_jsonb({text})"


def _text(column: str | None) -> str:
    return f"{_quote(column)}::text" if column else "NULL::text"


def _slices(feedback: Feedback, types: dict[str, str]) -> str:
    """The columns that slices are read from, as the text of one JSON object."""
    found = slices.columns(feedback)
    # A json column may hold what jsonb cannot, so its text is passed on.
    values = (f"'{name}', {_text(name) if types[name] == 'json' else _quote(name)}" for name in found)
    return f"jsonb_build_object({', '.join(values)})::text" if found else "NULL::text"


def _select(feedback: Feedback, types: dict[str, str]) -> str:
    columns = feedback.columns
    created_at = _quote(columns.created_at)
    zone = " AT TIME ZONE 'UTC'" if types[columns.created_at] == NAIVE else ""
    bounds = [f"current_setting('learning_engine.window_{side}')::timestamptz{zone}" for side in ("start", "end")]
    space = "E'[ \\t\\n\\r\\f\\v]+'"
    letters = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'"
    folded = f"btrim(regexp_replace(translate(left(feedback_type, {raw.LONGEST_THUMB}), {letters}), {space}, ' ', 'g'))"
    order = 'created_at, message, "user" COLLATE "C"'
    # The inner ORDER BY sorts while large values are still toasted; the outer one guarantees the order at no cost.
    return f"""
SELECT created_at, encode(message, 'hex'), request::text, response::text, feedback_type, "user", conversation,
  superseded, slices
FROM (
  SELECT *, rating IS NOT NULL AND row_number() OVER (
      PARTITION BY message, "user" COLLATE "C", rating IS NOT NULL
      ORDER BY created_at DESC, rating, conversation COLLATE "C"
    ) > 1 AS superseded
  FROM (
    SELECT *, sha256(convert_to(jsonb_build_array(request, response)::text, 'UTF8')) AS message,
      ((SELECT current_setting('learning_engine.ratings')::jsonb) ->> {folded})::smallint AS rating
    FROM (
      SELECT {created_at}{zone} AS created_at, {_json(columns.request, types)} AS request,
        {_json(columns.response, types)} AS response, {_text(columns.feedback_type)} AS feedback_type,
        {_text(columns.user)} AS "user", {_text(columns.conversation)} AS conversation,
        {_slices(feedback, types)} AS slices
      FROM {_quote(feedback.db_schema)}.{_quote(feedback.table)}
      WHERE {created_at} >= {bounds[0]} AND {created_at} < {bounds[1]}
    ) AS typed
  ) AS named
  ORDER BY {order}
) AS ordered
ORDER BY {order}"""  # noqa: S608 - only quoted identifiers and constants are interpolated
