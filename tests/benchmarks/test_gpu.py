"""The script of all GPU measurements: it calls existing scripts, goes on after one that fails, and names it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUDGET = 600


def test_a_script_that_fails_is_named_and_does_not_stop_the_others(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$1" in *penalty_cost*) exit 1;; esac\n')
    python.chmod(0o755)
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(tmp_path / "results")]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHON": str(python)}, capture_output=True, text=True, timeout=60
    )
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    assert all((ROOT / call[0]).is_file() and call[1:3] == ["--device", "cuda"] for call in calls)
    assert calls[-1][-1] == "--full"
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "failed or too slow: penalty_cost ",
        "failed or too slow: penalty_cost --full",
    ]


def test_the_limits_add_up_to_ten_minutes():
    lines = (ROOT / "benchmarks" / "gpu.sh").read_text().splitlines()
    assert 0 < sum(int(line.split()[1]) for line in lines if line.startswith("measure ")) <= BUDGET
