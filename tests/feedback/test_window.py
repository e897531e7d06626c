"""The rows of a window: `[start, end)` in UTC, whatever the time zone of the database, the column or the window."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from learning_engine.config.sections import Feedback
from learning_engine.records.contracts import Window

from .conftest import TABLE, WINDOW, Database, Store, row

ALWAYS = Window(datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
EDGES = ["2026-01-04 23:59:59.999999", "2026-01-05 00:00:00", "2026-01-11 23:59:59.999999", "2026-01-12 00:00:00"]
INSIDE = [WINDOW.start, WINDOW.end - timedelta(microseconds=1)]


@pytest.fixture
def _machine_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_machine_in_new_york")
def test_the_window_is_half_open_and_a_time_without_zone_is_utc(store: Store) -> None:
    store.fill(*(row(f"at {edge}", time=edge) for edge in EDGES))
    assert [one["created_at"] for one in store.read()] == INSIDE


@pytest.mark.parametrize("zone", ["+00", "+01:00", "-05", "+05:45"])
def test_a_column_with_zone_is_read_at_its_instant(database: Database, zone: str) -> None:
    database.create(TABLE.replace("timestamp", "timestamptz"))
    shift = datetime.fromisoformat(f"2026-01-01T00:00{zone}").utcoffset() or timedelta()
    database.insert(*(row(time=f"{datetime.fromisoformat(edge) + shift}{zone}") for edge in EDGES))
    assert [one["created_at"] for one in database.read()] == INSIDE


def test_the_hour_that_the_database_s_zone_skips_exists_in_utc(store: Store) -> None:
    store.fill(row(time="2026-03-08 02:30"))  # New York skips this hour
    start = datetime(2026, 3, 8, 2, tzinfo=UTC)
    (found,) = store.read(window=Window(start, start + timedelta(hours=1)))
    assert found["created_at"] == start + timedelta(minutes=30)


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_a_row_without_a_time_or_at_infinity_is_in_no_window(database: Database, kind: str) -> None:
    database.create(TABLE.replace("timestamp", kind))
    database.insert(row("now"), *(row(f"at {no_time}", time=no_time) for no_time in (None, "infinity", "-infinity")))
    for window in (WINDOW, ALWAYS):
        assert [one["request"] for one in database.read(window=window)] == ['{"prompt": "now"}']


def test_rows_without_a_time_are_not_counted(store: Store, tmp_path: Path) -> None:
    store.fill(row(time=None), row("now"), row(time=None, thumb=None))
    counts = store.snapshot(tmp_path / "snapshot.parquet", window=ALWAYS)
    assert (counts.read, counts.rows, counts.dropped) == (1, 1, {})


def test_the_window_s_own_zone_does_not_matter(store: Store) -> None:
    store.fill(row(time="2026-01-05 04:30"))
    start = datetime.fromisoformat("2026-01-05T00:00-05:00")
    assert store.read(window=Window(start, start + timedelta(hours=1))) == []
    assert len(store.read(window=Window(start - timedelta(hours=1), start))) == 1


def test_adjacent_windows_share_no_row_and_lose_none(store: Store) -> None:
    times = [WINDOW.start + timedelta(hours=i) for i in range(7 * 24)]
    store.fill(*(row(f"question {i}", time=f"{one:%Y-%m-%d %H:%M}") for i, one in enumerate(times)))
    days = [Window(WINDOW.start + timedelta(days=i), WINDOW.start + timedelta(days=i + 1)) for i in range(7)]
    for day in days:
        assert [one["created_at"] for one in store.read(window=day)] == [t for t in times if day.start <= t < day.end]


@pytest.mark.parametrize("count", [0, 1, Feedback().min_samples - 1])
def test_a_window_of_few_rows_is_read_and_counted(store: Store, tmp_path: Path, count: int) -> None:
    store.fill(*(row(f"question {i}") for i in range(count)), row(time="2026-01-12"))
    counts = store.snapshot(tmp_path / "snapshot.parquet")
    assert (counts.read, counts.rows, counts.thumbs_up) == (count, count, count)
