"""PostgreSQL fails while the window is read: the step reports it and can be retried, and the same rows then give the
same run key."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import psycopg
import pytest

from demo import postgres
from demo.ports import free_port
from demo.postgres import Postgres
from demo.processes import Stack
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback import postgres as postgres_module
from learning_engine.feedback.source import FileSource, PostgresSource
from learning_engine.records.contracts import Dataset
from learning_engine.registry import manifest
from learning_engine.steps import extract as extract_step
from tests.faults import tcp_proxy
from tests.faults.weeks import WEEK, Weeks
from tests.steps.conftest import week

TABLE = (
    "CREATE TABLE feedback (request_data jsonb, response_data jsonb, feedback_type text, created_at timestamptz, "
    "user_id text, conversation_id text)"
)
# Far more than the socket buffers hold, so that rows are still arriving when the connection breaks; few are kept.
ROWS = 2000
# Bytes of the response: after the first row has begun, and long before the last one.
STREAMING = 1_500_000
BULK = (
    "INSERT INTO feedback SELECT jsonb_build_object('prompt', 'question ' || i || repeat(md5(i::text), 100)), "
    "jsonb_build_object('response', 'answer ' || i), CASE i %% 20 WHEN 0 THEN 'up' ELSE 'no thumb' END, "
    "%s::timestamptz + i * interval '1 second', 'user ' || i %% 50, i::text FROM generate_series(1, %s) i"
)
LATE = (
    "INSERT INTO feedback SELECT request_data || '{\"late\": 1}', response_data, feedback_type, "
    "created_at + interval '1 millisecond', user_id || ' late', conversation_id || ' late' FROM feedback"
)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    directory = tmp_path_factory.mktemp("database")
    stack = Stack(directory)
    server = postgres.prepare(directory / "postgres", port=free_port())
    try:
        stack.up(server.program())
        server.create("feedback")
        yield server
    finally:
        stack.stop()
        postgres.remove(directory / "postgres")


class Table:
    """The third week's feedback in a new table."""

    def __init__(self, database: Postgres, weeks: Weeks) -> None:
        self.database, self.weeks = database, weeks
        weeks.back_to(weeks.before["extract"])
        self.sql("DROP TABLE IF EXISTS feedback")
        self.sql(TABLE)
        self.sql(BULK, week(WEEK).start, ROWS)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.uri("feedback"), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def extract(self, port: int | None = None, *, password: str = "", **feedback: Any) -> Dataset:
        """Run the step through the proxy at `port`, or directly against the server."""
        loop = self.weeks.loop().with_settings(feedback={"burst_votes": None, **feedback})
        address = self.database.uri("feedback").replace(f":{self.database.port}/", f":{port or self.database.port}/")
        if password:
            address = address.replace(self.database.password, password)
        resources = replace(loop.resources, open_feedback=lambda: PostgresSource(address))
        return extract_step.extract(resources, week(WEEK), widen=False)

    def fails(self, kind: type[FeedbackError], says: str, *arguments: Any, **more: Any) -> None:
        """extract fails in bounded time, shows no secret, and leaves no staging behind."""
        runs = {stored.key for stored in self.weeks.store.list(manifest.RUNS)}
        began = time.monotonic()
        with pytest.raises(FeedbackError, match=says) as caught:
            self.extract(*arguments, **more)
        assert type(caught.value) is kind
        assert time.monotonic() - began < 45
        assert self.database.password not in str(caught.value)
        assert {stored.key for stored in self.weeks.store.list(manifest.RUNS)} == runs


@pytest.fixture
def table(database: Postgres, weeks: Weeks) -> Table:
    return Table(database, weeks)


def test_the_same_feedback_gives_the_same_dataset_from_a_table_and_from_a_file(table: Table) -> None:
    table.sql("TRUNCATE feedback")
    rows = [json.loads(line) for line in table.weeks.feedback.read_text().splitlines()]
    for row in rows:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in row.values()]
        table.sql(f"INSERT INTO feedback ({', '.join(row)}) VALUES (%s, %s, %s, %s, %s, %s)", *values)
    resources = table.weeks.loop().with_settings(feedback={"burst_votes": None}).resources
    assert isinstance(resources.open_feedback(), FileSource)
    assert table.extract() == extract_step.extract(resources, week(WEEK), widen=False)


@pytest.mark.parametrize(
    "after", [500, *(pytest.param(size, marks=pytest.mark.stack) for size in (0, 100_000, STREAMING))]
)
def test_a_broken_connection_is_retryable_and_the_retry_gives_the_same_dataset(table: Table, after: int) -> None:
    """At the first byte, during setup, and while rows arrive."""
    undisturbed = table.extract()
    table.weeks.back_to(table.weeks.before["extract"])
    with tcp_proxy.listening(table.database.port, after, tcp_proxy.breaks) as (proxy, port):
        table.fails(FeedbackUnavailable, "database|connection was lost", port)
        assert proxy.reached.is_set()
        assert table.extract(port) == undisturbed


def test_a_terminated_backend_is_retryable_and_the_retry_gives_the_same_dataset(table: Table) -> None:
    undisturbed = table.extract()
    table.weeks.back_to(table.weeks.before["extract"])
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'learning_engine'"

    def terminate(_: tcp_proxy.TcpProxy) -> None:
        assert table.sql(end) == [(True,)]

    with tcp_proxy.listening(table.database.port, STREAMING, terminate) as (_, port):
        table.fails(FeedbackUnavailable, "connection was lost|SQLSTATE 57P01", port)
        assert table.extract(port) == undisturbed


def test_a_killed_server_is_retryable_and_the_retry_gives_the_same_dataset(table: Table) -> None:
    """SIGKILL of one backend takes all of them down; the server recovers on its own."""
    undisturbed = table.extract()
    table.weeks.back_to(table.weeks.before["extract"])

    def kill(_: tcp_proxy.TcpProxy) -> None:
        ((pid,),) = table.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'learning_engine'")
        os.kill(pid, signal.SIGKILL)

    with tcp_proxy.listening(table.database.port, STREAMING, kill) as (_, port):
        table.fails(FeedbackUnavailable, "connection was lost|query failed", port)
    deadline = time.monotonic() + 30
    while not answers(table.database):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert table.extract() == undisturbed


def answers(database: Postgres) -> bool:
    try:
        return database.answers()
    except psycopg.OperationalError:
        return False


def test_rows_inserted_or_deleted_during_the_read_do_not_change_the_dataset(table: Table) -> None:
    """The step reads the rows as they were when the statement began."""
    undisturbed = table.extract()

    def change_rows(_: tcp_proxy.TcpProxy) -> None:
        table.sql(LATE)
        table.sql("DELETE FROM feedback WHERE user_id = 'user 7'")

    with tcp_proxy.listening(table.database.port, STREAMING, change_rows) as (proxy, port):
        assert table.extract(port) == undisturbed
        assert proxy.reached.is_set()
        later = table.extract(port)
    assert later.run_key != undisturbed.run_key
    assert later.read == 2 * ROWS - ROWS // 50


def test_a_server_that_never_responds_is_retryable_after_the_timeout(table: Table) -> None:
    with tcp_proxy.listening(table.database.port, 0, tcp_proxy.waits) as (proxy, port):
        table.fails(FeedbackUnavailable, "connection to server", port, timeout_seconds=2)
        assert proxy.reached.is_set()


def test_a_table_that_stays_locked_is_retryable_after_the_timeout(table: Table) -> None:
    undisturbed = table.extract()
    table.weeks.back_to(table.weeks.before["extract"])
    with psycopg.connect(table.database.uri("feedback")) as other:
        other.execute("LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE")
        table.fails(FeedbackUnavailable, "SQLSTATE 57014.*feedback.timeout_seconds", timeout_seconds=0.5)
    assert table.extract() == undisturbed


@pytest.mark.parametrize(
    ("change", "undo", "says"),
    [
        (
            "RENAME COLUMN feedback_type TO verdict",
            "RENAME COLUMN verdict TO feedback_type",
            "columns feedback_type in",
        ),
        ("RENAME TO kept", "", r"a table public\.feedback, found none"),
    ],
)
def test_a_renamed_column_or_table_is_named_and_not_retried(table: Table, change: str, undo: str, says: str) -> None:
    """No retry helps until someone restores the table."""
    undisturbed = table.extract()
    table.weeks.back_to(table.weeks.before["extract"])
    table.sql(f"ALTER TABLE feedback {change}")
    table.fails(FeedbackError, says)
    table.sql(f"ALTER TABLE feedback {undo}" if undo else "ALTER TABLE kept RENAME TO feedback")
    assert table.extract() == undisturbed


def test_a_table_dropped_between_its_description_and_its_rows_is_not_retried(table: Table) -> None:
    described = postgres_module._column_types

    def and_dropped(cursor: Any, feedback: Any) -> Any:
        types = described(cursor, feedback)
        table.sql("DROP TABLE feedback")
        return types

    with mock.patch.object(postgres_module, "_column_types", and_dropped):
        table.fails(FeedbackError, "SQLSTATE 42P01")
    assert table.sql("SELECT to_regclass('feedback')") == [(None,)]


def test_an_unreachable_server_is_retryable(table: Table) -> None:
    table.fails(FeedbackUnavailable, "connection to server .* failed: Connection refused", free_port())
    assert table.extract().read == ROWS


def test_a_wrong_password_is_retryable(table: Table) -> None:
    """Retryable, since a password is changed in two places, one after the other."""
    table.fails(FeedbackUnavailable, "password authentication failed", password="guess")
    assert table.extract().read == ROWS
