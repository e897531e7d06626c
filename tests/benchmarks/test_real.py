"""The study on SmolLM2 at a tiny size completes, and writes a row for each of its methods."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo import smollm2
from include.setup.packages import SetupError
from tests.benchmarks.test_learning import ROOT
from tests.programs import missing

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def test_each_method_has_its_figures(tmp_path: Path):
    try:
        smollm2.ready()
    except SetupError as error:
        missing(f"{smollm2.GGUF.name} is missing: {error}")
    script, environment = str(ROOT / "benchmarks" / "real.py"), {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, "--tiny", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "real.json").read_text())["rows"]
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["learned"] <= 1
        assert 0 <= row["kept"] <= 1
        # One epoch on two facts changes the base's own answers, but not by much.
        assert row["base"] == pytest.approx(1, abs=0.5)
        assert row["base"] != 1
        first, last = row["runs"][0]["by_week"]
        assert (first["week"], first["kept"]) == (1, None)
        assert last["kept"] == row["kept"]
