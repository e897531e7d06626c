"""PostgreSQL from the wheel, as the user who runs the tests: it requires its password and leaves nothing behind."""

from pathlib import Path

import adbc_driver_postgresql.dbapi
import psycopg
import pytest

from demo import postgres
from demo.ports import LOOPBACK, free_port
from demo.processes import Stack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("demo")
    stack = Stack(directory)
    server = postgres.prepare(directory / "postgres", port=free_port())
    stack.up(server.program())
    server.create("airflow", "feedback")
    yield server
    assert stack.stop() == ["postgres"]
    assert not server.data.joinpath("postmaster.pid").exists()  # it was shut down, not killed
    home = server.data.parent
    postgres.remove(directory / "postgres")
    assert not home.exists()


def test_psycopg_and_adbc_can_connect(server: postgres.Postgres):
    with psycopg.connect(server.uri("feedback")) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
    with adbc_driver_postgresql.dbapi.connect(server.uri("feedback")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("feedback",)


def test_the_password_is_required(server: postgres.Postgres):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.uri("feedback").replace(server.password, "guess"))
    assert server.password not in repr(server.program())


def test_postgres_listens_only_on_loopback(server: postgres.Postgres):
    with psycopg.connect(server.uri("feedback")) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == (LOOPBACK,)


def test_removing_a_missing_directory_does_nothing(tmp_path: Path):
    postgres.remove(tmp_path / "never")
    assert list(tmp_path.iterdir()) == []
