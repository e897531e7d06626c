"""The base models that the demo can teach (`make demo MODEL=…`), each with a world that its users ask about."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from demo import base, company_lessons, smollm2, town_lessons
from demo.lessons import WEEK, WEEKS, Question, Week
from include.setup.packages import ROOT


@dataclass(frozen=True)
class World:
    """A base model, and what its users teach.

    `model` is the value of MODEL, and `name` the base's name on the server. `base` gives its directory, whether that
    exists or not; `python -m maker DIR` makes it. `week` and `base_exam` give the lessons; `write_files` writes what
    the configuration needs and returns the settings that name it. `other_ways` are trained for comparison. A training
    uses `threads`; the weeks take at most `minutes`, and the demo's files `gigabytes`.
    """

    model: str
    name: str
    configuration: Path
    base: Callable[[], Path]
    maker: str
    week: Callable[[int, datetime], Week]
    base_exam: Callable[[], list[Question]]
    write_files: Callable[[Path], dict[str, str]]
    other_ways: tuple[str, ...]
    threads: int
    minutes: int
    gigabytes: float

    def weeks(self, first: datetime) -> list[Week]:
        """The four weeks starting at `first`. The same start always gives the same rows."""
        return [self.week(number, first + number * WEEK) for number in range(WEEKS)]


def _no_files(directory: Path) -> dict[str, str]:  # noqa: ARG001
    return {}


TOY = World(
    model="toy",
    name=town_lessons.NAME,
    configuration=ROOT / "demo" / "learning-engine.yaml",
    base=partial(base.cached, ROOT / ".cache" / "demo"),
    maker="demo.base",
    week=town_lessons.week,
    base_exam=town_lessons.base_exam,
    write_files=town_lessons.write_files,
    other_ways=("diagonal", "without"),
    threads=1,
    minutes=15,
    gigabytes=2.0,
)
SMOLLM2 = World(
    model="smollm2",
    name=smollm2.NAME,
    configuration=ROOT / "demo" / "smollm2.yaml",
    base=smollm2.cached,
    maker="demo.smollm2",
    week=company_lessons.week,
    base_exam=company_lessons.base_exam,
    write_files=_no_files,
    # Each would take as long as the weeks themselves.
    other_ways=(),
    threads=2,
    minutes=60,
    gigabytes=6.0,
)
WORLDS = {world.model: world for world in (TOY, SMOLLM2)}
