"""Every event is one line of JSON, whatever happens in a step."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from learning_engine import telemetry


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="learning_engine")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "learning_engine"]


def test_an_event_is_one_line_of_json(caplog: pytest.LogCaptureFixture, lines: Any) -> None:
    telemetry.event("train.progress", step=3, why="two\nlines, λ", at=datetime(2026, 1, 5, tzinfo=UTC), path=Path("a"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in message
    assert "λ" in message
    assert lines() == [
        {
            "event": "train.progress",
            "step": 3,
            "why": "two\nlines, λ",
            "at": "2026-01-05 00:00:00+00:00",
            "path": "a",
        }
    ]


def test_a_step_logs_its_start_and_at_the_end_its_duration_and_results(lines: Any) -> None:
    with telemetry.step("extract", window="w") as result:
        assert lines() == [{"event": "extract.start", "window": "w"}]
        result.update(rows=7)
    end = lines()[-1]
    assert (end["event"], end["rows"]) == ("extract.end", 7)
    assert 0 <= end["seconds"] < 60


class TimedOut(BaseException):
    """Like Airflow's time-out, not an Exception."""


@pytest.mark.parametrize("error", [ValueError("no rows,\nnone"), TimedOut("after 5 s"), KeyboardInterrupt()])
def test_a_step_that_fails_logs_the_error_with_its_stack_and_raises_it(
    error: BaseException, caplog: pytest.LogCaptureFixture, lines: Any
) -> None:
    def train() -> None:
        with telemetry.step("train"):
            raise error

    with pytest.raises(type(error)) as raised:
        train()
    assert raised.value is error
    failed = lines()[-1]
    assert failed["event"] == "train.failed"
    assert failed["seconds"] >= 0
    assert (failed["error"], failed["message"]) == (type(error).__name__, str(error))
    assert failed["stack"].startswith("Traceback")
    assert Path(__file__).name in failed["stack"]
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    assert "\n" not in caplog.records[-1].getMessage()
