"""Reading the feedback table of a real PostgreSQL."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from learning_engine.contracts import Window
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback.source import PostgresSource, read
from learning_engine.sections import Columns, Feedback

from .conftest import NAMES, PEOPLE, TABLE, WINDOW, WITH_PEOPLE, Database, row

DDL = Path(__file__).parents[2] / "include" / "sql" / "feedback.sql"


def test_reads_the_columns_as_json_text_in_utc(database: Database) -> None:
    database.create()
    database.insert(row("Who?", "Me."))
    (found,) = database.read()
    assert json.loads(found["request"]) == {"prompt": "Who?"}
    assert json.loads(found["response"]) == {"response": "Me."}
    assert found["created_at"] == datetime(2026, 1, 6, 12, tzinfo=UTC)
    assert (found["feedback_type"], found["user"], found["conversation"]) == ("thumbs_up", None, None)
    assert found["superseded"] is False
    text = '[{"prompt": "Who?"}, {"response": "Me."}]'
    assert found["message"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_the_window_is_half_open_in_utc_whatever_the_database_s_zone(database: Database, kind: str) -> None:
    database.create(TABLE.replace("timestamp", kind))
    zone = "+00" if kind == "timestamptz" else ""
    times = [
        "2026-01-04 23:59:59.999999",
        "2026-01-05 00:00:00",
        "2026-01-11 23:59:59.999999",
        "2026-01-12 00:00:00",
        "infinity",
        "-infinity",
    ]
    database.insert(*(row(f"at {time}", time=time if "inf" in time else time + zone) for time in times), row(time=None))
    found = [one["created_at"] for one in database.read()]
    assert found == [WINDOW.start, WINDOW.end - timedelta(microseconds=1)]


def test_rows_come_by_time_and_then_by_message(database: Database) -> None:
    database.create()
    database.insert(*(row(f"question {i}", time=f"2026-01-06 12:00:0{i % 3}") for i in range(60)))
    found = [(one["created_at"], one["message"]) for one in database.read()]
    assert len(found) == 60
    assert found == sorted(found)


def test_the_last_vote_counts_once_per_message(database: Database) -> None:
    database.create()
    database.insert(
        row(thumb="thumbs_up", time="2026-01-06 10:00"),
        row(thumb="Thumbs_Down ", time="2026-01-06 11:00"),
        row(thumb="meh", time="2026-01-06 12:00"),  # no vote: it supersedes nothing, and is not superseded
        row(thumb="thumbs_up", time="2026-01-13 12:00"),  # the next window's
        row(answer="Another answer", thumb="thumbs_up", time="2026-01-06 09:00"),
    )
    found = {(one["feedback_type"], one["created_at"].hour): one["superseded"] for one in database.read()}
    assert found == {
        ("thumbs_up", 9): False,
        ("thumbs_up", 10): True,
        ("Thumbs_Down ", 11): False,
        ("meh", 12): False,
    }


def test_every_user_has_a_vote_of_his_own(database: Database) -> None:
    database.create(TABLE + PEOPLE)
    database.insert(
        row(user="ann", time="2026-01-06 10:00"),
        row(user="ann", time="2026-01-06 11:00", thumb="down"),
        row(user="bob", time="2026-01-06 10:30"),
        row(user=None, time="2026-01-06 10:00"),
        row(user=None, time="2026-01-06 10:10"),
        names=NAMES,
    )
    found = database.read(database.feedback(columns=WITH_PEOPLE))
    kept = {(one["user"], one["created_at"].strftime("%H:%M")) for one in found if not one["superseded"]}
    assert kept == {("ann", "11:00"), ("bob", "10:30"), (None, "10:10")}
    assert sum(one["superseded"] for one in found) == 2


def test_at_one_instant_the_thumb_down_counts_in_whatever_order_the_votes_were_stored(database: Database) -> None:
    votes = [row(thumb="thumbs_up"), row(thumb="thumbs_down"), row(thumb="+1")]
    for name, stored in (("one", votes), ("two", votes[::-1])):
        other = Database(database.conninfo)
        other.create()
        other.insert(*stored)
        kept = [one["feedback_type"] for one in other.read() if not one["superseded"]]
        assert kept == ["thumbs_down"], name


@pytest.mark.parametrize("kind", ["text", "varchar", "json"])
def test_other_types_than_jsonb(database: Database, kind: str) -> None:
    database.create(TABLE.replace("jsonb", kind))
    request = '{"prompt":  "Who?"}'
    database.sql("INSERT INTO feedback VALUES (%s, %s, 'up', '2026-01-06')", request, '"Me \\ud83d\\ude00"')
    (found,) = database.read()
    assert json.loads(found["request"]) == request  # the text itself, as one JSON string
    assert json.loads(json.loads(found["response"])) == "Me 😀"


def test_a_column_of_json_may_hold_what_jsonb_refuses(database: Database) -> None:
    database.create(TABLE.replace("jsonb", "json"))
    for text in ('{"prompt": "\\u0000"}', '"\\ud800"', "null", "1e999999"):
        database.sql("INSERT INTO feedback VALUES (%s, '\"x\"', 'up', '2026-01-06')", text)
    assert len(database.read()) == 4


def test_thumbs_and_ids_of_other_types(database: Database) -> None:
    database.create(TABLE.replace("varchar", "integer") + ", user_id bigint, conversation_id uuid")
    identifier = "6f1c1b1e-0000-4000-8000-000000000001"
    database.insert(row(thumb=-1, user=7, conversation=identifier), names=NAMES)
    (found,) = database.read(database.feedback(columns=WITH_PEOPLE))
    assert (found["feedback_type"], found["user"], found["conversation"]) == ("-1", "7", identifier)


def test_any_name_of_table_schema_and_columns(database: Database) -> None:
    database.sql('CREATE TABLE "Order" ("select" jsonb, "Answer" jsonb, "type" text, "end" timestamptz, "user" int)')
    database.sql("""INSERT INTO "Order" VALUES ('"q"', '"a"', 'up', '2026-01-05 01:00+01', 3)""")
    names = Columns(request="select", response="Answer", feedback_type="type", created_at="end", user="user")
    (found,) = database.read(database.feedback(table="Order", columns=names))
    assert (found["request"], found["response"], found["user"]) == ('"q"', '"a"', "3")
    assert found["created_at"] == WINDOW.start


def test_names_are_quoted_and_text_is_never_run(database: Database) -> None:
    evil = 'f"; DROP TABLE victim; --'
    database.sql("CREATE TABLE victim ()")
    name = '"f""; DROP TABLE victim; --"'
    database.sql(f"CREATE TABLE {name} ({TABLE})")
    text = "'; DROP TABLE victim; --"
    database.sql(f"INSERT INTO {name} VALUES (to_jsonb(%s::text), NULL, %s, '2026-01-06')", text, text)
    feedback = database.feedback(thumbs_up=(text,)).model_copy(update={"table": evil})
    (found,) = database.read(feedback)
    assert json.loads(found["request"]) == found["feedback_type"] == text
    assert database.sql("SELECT count(*) FROM victim") == [(0,)]


def test_reads_a_view_a_partitioned_table_and_the_sql_file(database: Database) -> None:
    database.sql(DDL.read_text())
    database.insert(row())
    database.sql("CREATE VIEW seen AS SELECT * FROM feedback")
    database.sql("CREATE TABLE parts (LIKE feedback) PARTITION BY RANGE (created_at)")
    database.sql("CREATE TABLE parts_1 PARTITION OF parts DEFAULT")
    database.sql("INSERT INTO parts SELECT * FROM feedback")
    assert database.read() == database.read(database.feedback(table="seen"))
    assert database.read() == database.read(database.feedback(table="parts"))


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


def test_an_empty_window(database: Database) -> None:
    database.create()
    assert database.read() == []


def test_batches_stay_small_however_large_the_window(database: Database) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback SELECT to_jsonb(repeat(i::text, 2000)), '\"a\"', 'up', '2026-01-06' "
        "FROM generate_series(1000, 5000) i"
    )
    sizes = [batch.nbytes for batch in read(database.source, WINDOW, database.feedback())]
    assert sum(sizes) > 30_000_000
    assert max(sizes) < 6_000_000


def test_a_missing_table_is_named(database: Database) -> None:
    with pytest.raises(FeedbackError, match=rf"table {database.schema}\.feedback.*feedback\.sql") as caught:
        database.read()
    assert not caught.value.retryable


def test_missing_columns_are_named_with_those_that_are_there(database: Database) -> None:
    database.create()
    feedback = database.feedback(columns=Columns(response="reply", user="who"))
    with pytest.raises(
        FeedbackError, match=r"columns reply, who in .* found request_data, response_data, feedback_type"
    ) as e:
        database.read(feedback)
    assert not e.value.retryable


@pytest.mark.parametrize(
    ("column", "kind"), [("request_data", "bytea"), ("created_at", "date"), ("created_at", "text")]
)
def test_a_column_of_another_type_is_named(database: Database, column: str, kind: str) -> None:
    columns = {part.split()[0]: part for part in TABLE.split(", ")} | {column: f"{column} {kind}"}
    database.create(", ".join(columns.values()))
    with pytest.raises(FeedbackError, match=f"column {column} to be one of .* found {kind}"):
        database.read()


def test_no_right_to_read(database: Database) -> None:
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
def test_a_database_that_is_down_can_be_tried_again(address: str) -> None:
    with pytest.raises(FeedbackUnavailable, match="connection to server") as caught:
        list(read(PostgresSource(address), WINDOW, Feedback()))
    assert caught.value.retryable
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["host=localhost password=a hunter2", "host=x passwort=hunter2", "postgresql://me:%hunter2@x/db", "port=hunter2"],
)
def test_a_malformed_connection_says_nothing_of_its_secrets(address: str) -> None:
    source = PostgresSource(address)
    assert "hunter2" not in repr(source)
    with pytest.raises(FeedbackError, match="libpq cannot read") as caught:
        list(read(source, WINDOW, Feedback()))
    assert "hunter2" not in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.__cause__ is None


def test_a_statement_that_takes_too_long_is_ended_by_the_server(database: Database) -> None:
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


def test_a_database_that_breaks_off_in_the_middle(database: Database) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback SELECT to_jsonb(repeat(i::text, 2000)), '\"a\"', 'up', '2026-01-06' "
        "FROM generate_series(1000, 5000) i"
    )
    batches = read(database.source, WINDOW, database.feedback())
    next(batches)
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'learning_engine'")
    with pytest.raises(FeedbackUnavailable, match="broke off") as caught:
        list(batches)
    assert caught.value.retryable


def test_a_reader_that_stops_early_leaves_no_connection(database: Database) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback SELECT to_jsonb(repeat(i::text, 2000)), '\"a\"', 'up', '2026-01-06' "
        "FROM generate_series(1000, 5000) i"
    )
    batches = read(database.source, WINDOW, database.feedback())
    next(batches)
    batches.close()
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'learning_engine'"
    while database.sql(alive) != [(0,)]:
        assert datetime.now(UTC) < deadline


def test_a_row_nested_as_deeply_as_postgres_takes(database: Database) -> None:
    database.create()
    database.sql(
        "INSERT INTO feedback VALUES ((repeat('[', 5000) || repeat(']', 5000))::jsonb, '\"a\"', 'up', '2026-01-06')"
    )
    assert len(database.read()) == 1


def test_a_window_of_another_zone(database: Database) -> None:
    database.create()
    database.insert(row(time="2026-01-05 04:30"))
    start = datetime.fromisoformat("2026-01-05T00:00-05:00")
    assert database.read(window=Window(start, start + timedelta(hours=1))) == []
    assert len(database.read(window=Window(start - timedelta(hours=1), start))) == 1
