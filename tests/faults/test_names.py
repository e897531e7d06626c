"""SQL in a name or in a window never reaches the database: configuration refuses it.

In values and quoted names it is inert: see tests/feedback/test_columns.py and test_nasty_rows.py.
"""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from learning_engine import config
from learning_engine.airflow import windows
from learning_engine.config.sections import Columns, Dag
from learning_engine.errors import ConfigError

NAMES = ["db_schema", "table", *(f"columns.{name}" for name in Columns.model_fields)]
HOSTILE = ['f"; DROP TABLE feedback; --', "feedback'", "feedback\n", "pg_catalog.pg_authid", "x" * 64, "f/**/", "ſ", ""]


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value in HOSTILE:
        monkeypatch.setenv(f"LEARNING_ENGINE__FEEDBACK__{name.upper().replace('.', '__')}", value)
        with pytest.raises(ConfigError, match=rf"feedback\.{name}: String should match pattern"):
            config.load()


@pytest.mark.parametrize("text", ["2026-01-01T00:00Z'; DROP TABLE feedback; --", "now()", "-infinity", "current_date"])
@pytest.mark.parametrize("param", ["window_start", "window_end"])
def test_a_window_that_is_not_a_time_is_refused(param: str, text: str) -> None:
    params = {"window_start": "2026-01-05T00:00:00Z", "window_end": "2026-01-12T00:00:00Z"} | {param: text}
    run = SimpleNamespace(run_id="r", run_after=datetime(2026, 2, 1, tzinfo=UTC))
    with pytest.raises(ConfigError, match="as ISO 8601 with a time zone"):
        windows.of_run(run, params, Dag())
