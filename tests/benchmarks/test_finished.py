"""A long benchmark that was interrupted goes on where it stopped."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from common import finished
from common.finished import Finished


@dataclass(frozen=True)
class Score:
    name: str
    share: float


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "CACHE", tmp_path)


def options(seed: int = 0) -> argparse.Namespace:
    return argparse.Namespace(seed=seed, data=Path("somewhere"))


def test_a_call_is_made_once_for_each_of_its_arguments():
    made = []

    def measure(name: str, *, seed: int) -> Score:
        made.append((name, seed))
        return Score(name, seed / 4)

    for _ in range(2):
        found = Finished.of("example", options())
        assert found.call(Score, measure, "ours", seed=1) == Score("ours", 0.25)
        assert found.call(Score, measure, "ours", seed=3) == Score("ours", 0.75)
    assert made == [("ours", 1), ("ours", 3)]
    found.forget()
    found.call(Score, measure, "ours", seed=1)
    assert len(made) == 3


def test_other_options_or_sources_begin_anew(monkeypatch, tmp_path):
    first = Finished.of("example", options())
    assert first == Finished.of("example", options())
    assert first != Finished.of("example", options(seed=1))
    (tmp_path / "changed.py").write_text("a change")
    monkeypatch.setattr(finished, "SOURCES", (str(tmp_path),))
    monkeypatch.setattr(finished, "ROOT", tmp_path)
    assert first != Finished.of("example", options())


def test_a_call_that_fails_is_made_again():
    def fails() -> Score:
        raise ArithmeticError

    found = Finished.of("example", options())
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            found.call(Score, fails)
