"""A window read in a subprocess: same counts, same errors, and the memory is returned to the system."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from learning_engine import config
from learning_engine.errors import FeedbackError, FeedbackUnavailable
from learning_engine.feedback.source import FileSource
from learning_engine.records.contracts import Window
from learning_engine.steps import resources as in_process
from learning_engine.steps.resources import Resources
from learning_engine.web import subprocess_read

WINDOW = Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
ROWS = 4_000
# Prints by how many MiB the process grows while it reads a window.
MEASURE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psutil
from learning_engine.feedback import snapshot  # imported before the measurement
from tests.web.test_subprocess_read import WINDOW, in_process, resources_of, subprocess_read
reader = {"in_process": in_process, "subprocess": subprocess_read}[sys.argv[1]]
before = psutil.Process().memory_info().rss
reader.read_window(resources_of(Path(sys.argv[2])), WINDOW, Path(sys.argv[3]))
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def resources_of(feedback: Path) -> Resources:
    def none() -> Any:
        raise AssertionError("must not be opened")

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


def test_counts_equal_those_of_an_in_process_read(feedback: Path, tmp_path: Path):
    counts = subprocess_read.read_window(resources_of(feedback), WINDOW, tmp_path / "subprocess.parquet")
    assert counts == in_process.read_window(resources_of(feedback), WINDOW, tmp_path / "in_process.parquet")
    assert counts.rows == ROWS
    assert (tmp_path / "subprocess.parquet").read_bytes() == (tmp_path / "in_process.parquet").read_bytes()


def test_memory_is_returned_after_the_read(feedback: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def grows(mode: str) -> float:
        command = [sys.executable, "-c", MEASURE, mode, str(feedback), str(tmp_path / mode)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert grows("subprocess") < 10 < grows("in_process")


def test_errors_equal_those_of_an_in_process_read(tmp_path: Path):
    with pytest.raises(FeedbackError, match=r"Expected .*missing\.jsonl"):
        subprocess_read.read_window(resources_of(tmp_path / "missing.jsonl"), WINDOW, tmp_path / "snapshot.parquet")


def test_a_slice_without_its_column_is_named(feedback: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE__FEEDBACK__SLICES", '{"language": "lang"}')
    with pytest.raises(FeedbackError, match=r"columns lang in .* found request_data, .*: set feedback\.slices\."):
        subprocess_read.read_window(resources_of(feedback), WINDOW, tmp_path / "snapshot.parquet")


def test_a_failed_subprocess_is_reported(feedback: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess_read.sys, "executable", "/bin/false")
    with pytest.raises(FeedbackUnavailable, match="ended with 1: see the api-server's log"):
        subprocess_read.read_window(resources_of(feedback), WINDOW, tmp_path / "snapshot.parquet")


def test_a_source_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess_read, "START_SECONDS", 0.5)
    hanging = tmp_path / "hanging.jsonl"
    os.mkfifo(hanging)
    resources = resources_of(hanging)
    short = resources.settings.feedback.model_copy(update={"timeout_seconds": 0.5})
    resources = replace(resources, settings=resources.settings.model_copy(update={"feedback": short}))
    with pytest.raises(FeedbackUnavailable, match="within 1 s, found no result"):
        subprocess_read.read_window(resources, WINDOW, tmp_path / "snapshot.parquet")
