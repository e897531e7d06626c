"""A run's window for every way in which Airflow starts a run, from the fields of the run record."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from learning_engine.airflow import windows
from learning_engine.config.sections import Dag
from learning_engine.errors import ConfigError
from learning_engine.records.contracts import Window

WEEKLY = Dag()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Run:
    run_after: datetime
    run_id: str = "mine"
    run_type: str = "manual"
    state: str = "running"
    logical_date: datetime | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    conf: dict[str, Any] | None = field(default_factory=dict)


def test_a_run_with_a_data_interval_uses_it():
    run = Run(
        at("2026-11-16T02:00"), data_interval_start=at("2026-11-09T02:00"), data_interval_end=at("2026-11-16T02:00")
    )
    assert windows.of_run(run, {}, WEEKLY).window == Window(at("2026-11-09T02:00"), at("2026-11-16T02:00"))


@pytest.mark.parametrize(
    "run_after",
    ["2026-11-16T02:00:00", "2026-11-18T13:37:11", "2026-11-23T01:59:59"],
)
def test_a_run_without_dates_uses_the_last_complete_week(run_after):
    window = windows.of_run(Run(at(run_after)), {}, WEEKLY)
    assert window.window == Window(at("2026-11-09T02:00"), at("2026-11-16T02:00"))
    assert not window.explicit
    assert (window.window.start - timedelta(days=56)).tzinfo is UTC


def test_an_empty_interval_counts_as_none():
    monday = at("2026-11-16T02:00")
    run = Run(monday, data_interval_start=monday, data_interval_end=monday)
    assert windows.of_run(run, {}, WEEKLY).window.start == at("2026-11-09T02:00")


def test_params_override_the_interval_and_keep_their_offset():
    run = Run(
        at("2026-11-16T02:00"), data_interval_start=at("2026-11-09T02:00"), data_interval_end=at("2026-11-16T02:00")
    )
    params = {"window_start": "2026-10-01T02:00:00+02:00", "window_end": "2026-10-08T00:00:00Z"}
    found = windows.of_run(run, params, WEEKLY)
    assert found.window == Window(at("2026-10-01T00:00"), at("2026-10-08T00:00"))
    assert found.explicit


def test_daylight_saving_follows_the_time_zone_of_the_schedule():
    berlin = Dag(timezone="Europe/Berlin")
    window = windows.of_run(Run(at("2026-10-27T00:00")), {}, berlin).window
    assert (window.start, window.end) == (at("2026-10-19T00:00"), at("2026-10-26T01:00"))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"window_start": "2026-10-01T00:00:00Z"}, "both params"),
        ({"window_end": "2026-10-01T00:00:00Z"}, "both params"),
        ({"window_start": "2026-10-08T00:00:00Z", "window_end": "2026-10-01T00:00:00Z"}, "before window_end"),
        ({"window_start": "2026-10-01T00:00:00Z", "window_end": "2026-10-01T00:00:00Z"}, "before window_end"),
        ({"window_start": "2026-10-01T00:00:00", "window_end": "2026-10-08T00:00:00"}, "time zone"),
        ({"window_start": "yesterday", "window_end": "today"}, "ISO 8601"),
    ],
)
def test_a_bad_window_is_refused_with_the_reason(params, reason):
    with pytest.raises(ConfigError, match=reason):
        windows.of_run(Run(at("2026-11-16T02:00")), params, WEEKLY)


def week(number: int, **fields: Any) -> Run:
    start, end = at(f"2026-11-{2 + 7 * number:02d}T02:00"), at(f"2026-11-{9 + 7 * number:02d}T02:00")
    return Run(end, logical_date=start, data_interval_start=start, data_interval_end=end, **fields)


@pytest.mark.parametrize(
    ("others", "waits_for"),
    [
        ([], []),
        ([week(2, run_id="mine")], []),
        ([week(1, run_id="earlier")], ["earlier"]),
        ([week(3, run_id="later")], []),
        ([week(2, run_id="same window")], []),
        ([week(1, run_id="queued", state="queued", run_type="scheduled")], []),
        ([week(1, run_id="queued backfill", state="queued", run_type="backfill")], ["queued backfill"]),
        ([week(3, run_id="later"), week(0, run_id="first")], ["first"]),
        ([week(1, run_id="b"), week(0, run_id="a"), week(1, run_id="b")], ["a", "b"]),
        (
            [
                week(
                    3,
                    run_id="typed in",
                    conf={"window_start": "2026-11-01T00:00:00Z", "window_end": "2026-11-02T00:00:00Z"},
                )
            ],
            ["typed in"],
        ),
        ([week(1, run_id="broken", conf={"window_start": "2026-11-01T00:00:00Z"})], []),
    ],
)
def test_a_run_waits_for_earlier_windows_only(monkeypatch, others, waits_for):
    monkeypatch.setattr(windows, "_active_runs", lambda _: iter(others))
    mine = week(2)
    window = windows.of_run(mine, {}, WEEKLY).window
    assert windows.earlier_active_runs(mine, window, "dag", WEEKLY) == waits_for
