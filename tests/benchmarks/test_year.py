"""The benchmark of a year at a tiny size: what is replayed, what is scored, the picture."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from forgetting import lessons, world
from yearly import chain, picture
from yearly.methods import METHODS, TWO, Method

from tests.benchmarks.test_forgetting import LANGUAGE, SHAPE

TWO_ROWS = next(method for method in METHODS if method.name == TWO)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Four known facts, then four weeks of two."""
    known, *weeks = lessons.facts(LANGUAGE, [4, 2, 2, 2, 2], seed=0)
    rows = lessons.rows(LANGUAGE, known, range(4), seed=0)
    pretraining = world.Pretraining(steps=60, batch=12)
    folder = tmp_path_factory.mktemp("base") / "model"
    base = world.make_base(folder, len(LANGUAGE.words()), rows, pretraining, seed=0, **SHAPE)
    taught = tuple(lessons.rows(LANGUAGE, week, range(4), seed=0) for week in weeks)
    load = world.adapter_loader(base, ("q_proj", "k_proj", "v_proj", "o_proj"), rank=4)
    return world.World(load, rows, rows, taught, taught, world.row_accuracy, steps=0, batch_size=6)


def test_replayed_rows_come_from_every_earlier_week_and_a_quarter_from_the_base(small):
    method = replace(TWO_ROWS, steps=8)
    found = chain._replayed(small.weeks[:3], small.known, len(small.weeks[3]), method, 6, np.random.default_rng(0))
    anchor, old = ([tuple(ids) for ids in part["input_ids"]] for part in found)
    size = len(anchor) + len(old)
    assert (len(anchor), size) == (round(size / 4), 2 * 16)
    known = {tuple(ids) for ids in small.known["input_ids"]}
    assert set(anchor) <= known
    for week in small.weeks[:3]:
        assert set(old) & {tuple(ids) for ids in week["input_ids"]}
    method = replace(method, reach=0)
    (only,) = chain._replayed(small.weeks[:3], small.known, len(small.weeks[3]), method, 6, np.random.default_rng(0))
    assert {tuple(ids) for ids in only["input_ids"]} <= known
    assert len(only) == len(anchor)


@pytest.mark.parametrize(
    "method", [replace(each, steps=20) for each in (METHODS[0], METHODS[-1])], ids=lambda each: each.name
)
def test_a_year_is_scored_after_each_quarter(small, method: Method, tmp_path):
    year = chain.run(small, replace(method, rates=(3e-2,)), seed=0)
    assert len(year.learned) == len(year.kept[4]) == 4
    assert list(year.kept) == ([4] if method.joint else [1, 2, 3, 4])
    assert len(year.seconds) == (0 if method.joint else 4)
    assert (year.stored > 0) == (not method.joint)
    assert np.mean(year.by_quarter()) > 0.1
    assert 0 <= year.base[4] <= 1
    picture.draw({method.name: [year]}, tmp_path / "year.png")
    assert (tmp_path / "year.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_the_script_runs_every_method_and_writes_its_figures(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "year.py"
    command = [sys.executable, str(script), "--tiny", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "year-tiny.json").read_text())["rows"]
    assert [row["method"] for row in rows] == [method.name for method in METHODS]
    assert (tmp_path / "year-tiny.png").is_file()
