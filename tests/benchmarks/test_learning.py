"""Each benchmark of the learning core at a tiny size: it completes and writes JSON in the documented format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# `make test` runs only the first test, `make test-stack` the others.
LONG = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]


def run(name: str, directory: Path) -> dict:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--tiny", "--results", str(directory)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((directory / f"{name}.json").read_text())
    assert found.keys() == {"benchmark", "machine", "versions", "arguments", "rows", "targets"}
    assert found["benchmark"] == name
    assert found["machine"]["cores"] >= 1
    assert found["versions"].keys() >= {"python", "torch"}
    assert (found["arguments"]["tiny"], found["arguments"]["seed"]) == (True, 0)
    for target in found["targets"]:
        assert target.keys() == {"name", "figure", "comparison", "bound", "reached"}
        assert target["name"] in done.stdout.replace("\n", "")
    return found


def test_fisher_exact_reaches_its_bounds_at_any_size(tmp_path):
    found = run("fisher_exact", tmp_path)
    assert len(found["targets"]) == 5
    assert all(target["reached"] for target in found["targets"])
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["batched square, sum of tokens, batch 16"]["cosine"] < 0.95
    assert rows["Mammoth's p(label) weights"]["trace"] < 0.1


@LONG
def test_fisher_speed_compares_equal_results(tmp_path):
    found = run("fisher_speed", tmp_path)
    cosines = {(row["what"], row["structure"]): row["cosine"] for row in found["rows"]}
    for (what, structure), cosine in cosines.items():
        if what in ("ours, labels observed", "torch.func vmap of grad", "Opacus"):
            assert cosine == pytest.approx(1, abs=1e-4), (what, structure)
    assert {structure for what, structure in cosines if what.startswith("ours")} == {"diagonal", "kronecker"}
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in found["rows"])


@LONG
def test_penalty_cost_measures_every_penalty_at_every_width(tmp_path):
    rows = run("penalty_cost", tmp_path)["rows"]
    by_width = [row for row in rows if "peak_bytes" in row]
    assert len({row["penalty"] for row in by_width}) == 4
    assert len(by_width) == 4 * len({(row["what"], row["width"]) for row in by_width})
    assert all(row["milliseconds"] > 0 and row["peak_bytes"] > 0 for row in by_width)
    assert 0 < rows[-1]["share"] < 10


@LONG
def test_training_speed_ends_at_the_loss_of_the_peer(tmp_path):
    found = run("training_speed", tmp_path)
    losses = {row["what"]: row["loss"] for row in found["rows"]}
    assert losses["ours"] == pytest.approx(losses["TRL, our order of the rows"], abs=1e-4)
    assert losses["ours"] < losses["before training"] - 0.01
