"""Reading feedback from a real PostgreSQL: relations, order and failures."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from learning_engine.config.sections import Feedback
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback.source import PostgresSource, read

from .conftest import WINDOW, Database, row

DDL = Path(__file__).parents[2] / "include" / "sql" / "feedback.sql"


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_are_ordered_by_time_and_message_however_they_were_stored(database: Database, reverse: bool) -> None:
    rows = [row(f"question {i}", time=f"2026-01-06 12:00:0{i % 3}") for i in range(60)]
    database.create()
    database.insert(*(rows[::-1] if reverse else rows))
    found = [(one["created_at"], one["message"]) for one in database.read()]
    assert len(set(found)) == 60
    assert found == sorted(found)


def test_a_view_a_partitioned_table_and_the_table_of_the_sql_file_are_read(database: Database) -> None:
    database.sql(DDL.read_text())
    database.insert(row())
    database.sql("CREATE VIEW seen AS SELECT * FROM feedback")
    database.sql("CREATE TABLE parts (LIKE feedback) PARTITION BY RANGE (created_at)")
    database.sql("CREATE TABLE parts_1 PARTITION OF parts DEFAULT")
    database.sql("INSERT INTO parts SELECT * FROM feedback")
    found = database.read()
    assert len(found) == 1
    assert found == database.read(database.feedback(table="seen")) == database.read(database.feedback(table="parts"))


def test_a_window_uses_the_index(database: Database) -> None:
    database.sql(DDL.read_text())
    database.sql(
        "INSERT INTO feedback SELECT '1', '1', 'up', timestamp '2020-01-01' + i * interval '1 hour' "
        "FROM generate_series(1, 60000) i"
    )
    database.sql("ANALYZE feedback")
    before = database.sql("SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = %s", database.schema)
    assert len(database.read()) == 7 * 24
    database.sql("SELECT pg_stat_force_next_flush()")
    after = database.sql("SELECT idx_scan FROM pg_stat_user_indexes WHERE schemaname = %s", database.schema)
    assert after[0][0] > before[0][0]


def test_an_empty_table_has_no_rows(database: Database) -> None:
    database.create()
    assert database.read() == []


def test_a_missing_select_privilege_is_named(database: Database) -> None:
    database.create()
    role = f"reader_{database.schema}"
    database.sql(f"CREATE ROLE {role} LOGIN")
    database.sql(f"GRANT USAGE ON SCHEMA {database.schema} TO {role}")
    source = PostgresSource(database.conninfo.replace("user=postgres", f"user={role}"))
    with pytest.raises(FeedbackError, match=r"42501.*grant") as caught:
        list(read(source, WINDOW, database.feedback()))
    assert not caught.value.retryable
    database.sql(f"GRANT SELECT ON feedback TO {role}")
    assert list(read(source, WINDOW, database.feedback())) == []
    database.sql(f"DROP OWNED BY {role}")


@pytest.mark.parametrize(
    "address",
    [
        "host=127.0.0.1 port=1 password=hunter2",
        "host=/nowhere",
        "postgresql://me:hunter2@127.0.0.1:1/db?sslmode=disable",
    ],
)
def test_a_database_that_is_down_is_retryable(address: str) -> None:
    with pytest.raises(FeedbackUnavailable, match="connection to server") as caught:
        list(read(PostgresSource(address), WINDOW, Feedback()))
    assert caught.value.retryable
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["host=localhost password=a hunter2", "host=x passwort=hunter2", "postgresql://me:%hunter2@x/db", "port=hunter2"],
)
def test_the_error_for_a_malformed_connection_shows_no_secret(address: str) -> None:
    source = PostgresSource(address)
    assert "hunter2" not in repr(source)
    with pytest.raises(FeedbackError, match="libpq cannot read") as caught:
        list(read(source, WINDOW, Feedback()))
    assert "hunter2" not in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.__cause__ is None


def test_a_statement_that_takes_too_long_is_cancelled_by_the_server(database: Database) -> None:
    database.sql("CREATE FUNCTION slow() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT pg_sleep(30)::text $$")
    database.create()
    database.insert(row())
    database.sql(
        "CREATE VIEW slow_feedback AS "
        "SELECT request_data, response_data, slow() AS feedback_type, created_at FROM feedback"
    )
    began = datetime.now(UTC)
    with pytest.raises(FeedbackUnavailable, match="timeout_seconds"):
        database.read(database.feedback(table="slow_feedback", timeout_seconds=0.3))
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_a_table_that_stays_locked_is_retryable(database: Database) -> None:
    database.create()
    database.insert(row())
    with psycopg.connect(database.conninfo, options=f"-c search_path={database.schema}") as other:
        other.execute("LOCK TABLE feedback")
        with pytest.raises(FeedbackUnavailable, match=r"57014.*timeout_seconds") as caught:
            database.read(database.feedback(timeout_seconds=0.3))
    assert caught.value.retryable
    assert len(database.read()) == 1
