"""The table's columns: their types, their names, and the optional ones."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from learning_engine.config.sections import Columns
from learning_engine.errors import FeedbackError

from .conftest import NAMES, PEOPLE, SQL, TABLE, WINDOW, WITH_PEOPLE, Database, Store, row


def test_columns_are_read_as_json_text_and_utc_times(database: Database) -> None:
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


@pytest.mark.parametrize("user", ["user_id", None])
@pytest.mark.parametrize("conversation", ["conversation_id", None])
def test_user_and_conversation_are_read_if_configured(store: Store, user: str | None, conversation: str | None) -> None:
    store.fill(row(user="ann", conversation="c1"))
    (found,) = store.read(store.feedback(columns=Columns(user=user, conversation=conversation)))
    assert (found["user"], found["conversation"]) == (user and "ann", conversation and "c1")


@pytest.mark.parametrize("kind", ["text", "varchar", "json"])
def test_text_varchar_and_json_columns_are_read(database: Database, kind: str) -> None:
    database.create(TABLE.replace("jsonb", kind))
    request = '{"prompt":  "Who?"}'
    database.sql("INSERT INTO feedback VALUES (%s, %s, 'up', '2026-01-06')", request, '"Me \\ud83d\\ude00"')
    (found,) = database.read()
    assert json.loads(found["request"]) == request  # the text itself, as one JSON string
    assert json.loads(json.loads(found["response"])) == "Me 😀"


def test_thumbs_and_ids_of_other_types_are_read_as_text(database: Database) -> None:
    database.create(TABLE.replace("varchar", "integer") + ", user_id bigint, conversation_id uuid")
    identifier = "6f1c1b1e-0000-4000-8000-000000000001"
    database.insert(row(thumb=-1, user=7, conversation=identifier), names=NAMES)
    (found,) = database.read(database.feedback(columns=WITH_PEOPLE))
    assert (found["feedback_type"], found["user"], found["conversation"]) == ("-1", "7", identifier)


def test_enums_and_domains_are_read_like_their_base_types(database: Database) -> None:
    database.sql("CREATE TYPE thumb AS ENUM ('thumbs_up', 'thumbs_down')")
    database.sql("CREATE DOMAIN chat AS jsonb CHECK (VALUE <> '0')")
    database.sql("CREATE DOMAIN instant AS timestamp NOT NULL")
    database.create("request_data chat, response_data chat, feedback_type thumb, created_at instant")
    database.insert(row(time="2026-01-05 00:00"))
    (found,) = database.read()
    assert json.loads(found["request"]) == {"prompt": "Hello?"}
    assert (found["feedback_type"], found["created_at"]) == ("thumbs_up", WINDOW.start)


def test_any_name_of_table_and_columns_can_be_configured(database: Database) -> None:
    database.sql('CREATE TABLE "Order" ("select" jsonb, "Answer" jsonb, "type" text, "end" timestamptz, "user" int)')
    database.sql("""INSERT INTO "Order" VALUES ('"q"', '"a"', 'up', '2026-01-05 01:00+01', 3)""")
    names = Columns(request="select", response="Answer", feedback_type="type", created_at="end", user="user")
    (found,) = database.read(database.feedback(table="Order", columns=names))
    assert (found["request"], found["response"], found["user"]) == ('"q"', '"a"', "3")
    assert found["created_at"] == WINDOW.start


def test_names_are_quoted_and_text_is_never_executed(database: Database) -> None:
    evil = 'f"; DROP TABLE victim; --'
    database.sql("CREATE TABLE victim ()")
    name = '"f""; DROP TABLE victim; --"'
    database.sql(f"CREATE TABLE {name} ({TABLE})")
    text = SQL.replace("feedback", "victim")
    database.sql(f"INSERT INTO {name} VALUES (to_jsonb(%s::text), NULL, %s, '2026-01-06')", text, text)
    feedback = database.feedback(thumbs_up=(text,)).model_copy(update={"table": evil})
    (found,) = database.read(feedback)
    assert json.loads(found["request"]) == found["feedback_type"] == text
    assert database.sql("SELECT count(*) FROM victim") == [(0,)]


def test_a_missing_table_is_named(database: Database) -> None:
    with pytest.raises(FeedbackError, match=rf"table {database.schema}\.feedback.*feedback\.sql") as caught:
        database.read()
    assert not caught.value.retryable


def test_missing_columns_are_named_with_the_existing_ones(database: Database) -> None:
    database.create()
    feedback = database.feedback(columns=Columns(response="reply", user="who"))
    there = "request_data, response_data, feedback_type"
    with pytest.raises(FeedbackError, match=rf"columns reply, who in .* found {there}") as caught:
        database.read(feedback)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("column", "kind"),
    [("request_data", "bytea"), ("response_data", "integer"), ("created_at", "date"), ("created_at", "text")],
)
def test_a_column_of_another_type_is_named(database: Database, column: str, kind: str) -> None:
    columns = {part.split()[0]: part for part in TABLE.split(", ")} | {column: f"{column} {kind}"}
    database.create(", ".join(columns.values()))
    with pytest.raises(FeedbackError, match=f"column {column} to be one of .* found {kind}") as caught:
        database.read()
    assert not caught.value.retryable


def test_a_column_that_was_dropped_is_missing(database: Database) -> None:
    database.create(TABLE + PEOPLE)
    database.sql("ALTER TABLE feedback DROP COLUMN user_id")
    with pytest.raises(FeedbackError, match="columns user_id in"):
        database.read(database.feedback(columns=WITH_PEOPLE))
