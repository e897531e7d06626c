"""A window that is read in a process of its own: the same counts, the same errors, and the memory goes back."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from learning_engine import config
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback.source import FileSource
from learning_engine.records.contracts import Window
from learning_engine.steps import resources as here
from learning_engine.steps.resources import Resources
from learning_engine.web import apart

WINDOW = Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
ROWS = 4_000
# The memory of a process, in MiB, before and after it had a window read.
MEASURE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psutil
from learning_engine.feedback import snapshot  # what is imported is no row
from tests.web.test_apart import WINDOW, apart, here, resources_of
how = {"here": here, "apart": apart}[sys.argv[1]]
before = psutil.Process().memory_info().rss
how.read_window(resources_of(Path(sys.argv[2])), WINDOW, Path(sys.argv[3]))
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def resources_of(feedback: Path) -> Resources:
    def none() -> Any:
        raise AssertionError("not asked for")

    return Resources(config.load(), none, lambda: FileSource(feedback), none)


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEARNING_ENGINE")]:
        monkeypatch.delenv(name)


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    def line(number: int) -> str:
        request, response = {"prompt": f"Question {number}? " * 40}, {"response": f"Answer {number}. " * 60}
        thumb = "thumbs_up" if number % 3 else "thumbs_down"
        row = {"request_data": request, "response_data": response, "feedback_type": thumb}
        return json.dumps(row | {"created_at": f"2026-01-06T12:00:00.{number:06}"})

    path = tmp_path / "feedback.jsonl"
    path.write_text("\n".join(map(line, range(ROWS))))
    return path


def test_it_counts_what_is_counted_here(feedback: Path, tmp_path: Path):
    counts = apart.read_window(resources_of(feedback), WINDOW, tmp_path / "apart.parquet")
    assert counts == here.read_window(resources_of(feedback), WINDOW, tmp_path / "here.parquet")
    assert counts.rows == ROWS
    assert (tmp_path / "apart.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_the_memory_of_the_rows_goes_back(feedback: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def grows(how: str) -> float:
        command = [sys.executable, "-c", MEASURE, how, str(feedback), str(tmp_path / how)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert grows("apart") < 10 < grows("here")


def test_an_error_is_the_one_that_would_be_raised_here(tmp_path: Path):
    with pytest.raises(FeedbackError, match=r"Expected .*missing\.jsonl"):
        apart.read_window(resources_of(tmp_path / "missing.jsonl"), WINDOW, tmp_path / "snapshot.parquet")


def test_a_process_that_dies_is_told_of(feedback: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(apart.sys, "executable", "/bin/false")
    with pytest.raises(FeedbackUnavailable, match="ended with 1: see the api-server's log"):
        apart.read_window(resources_of(feedback), WINDOW, tmp_path / "snapshot.parquet")
