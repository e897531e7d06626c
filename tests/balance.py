"""Distribute the tests over pytest-xdist processes by file or by stack, longest first. A plugin of conftest.

`pytest --record-durations` writes the seconds of each scope to tests/durations.json, one record per selection (`-m`).
Later runs of the same selection are sorted by them.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

RECORD = Path(__file__).with_name("durations.json")
# The tests in each of these folders share servers that are expensive to start.
STACKS = (
    "tests/integration/celery/",
    "tests/integration/max_serve/",
    "tests/browser/",
    "tests/web/",
    "tests/faults/",
)
INTEGRATION = "tests/integration/"
# tests/integration runs on two stacks, one per process; these files run on the second.
SECOND = {f"{INTEGRATION}test_{name}.py" for name in ("killed_tasks", "secrets", "servers")}


def scope(nodeid: str) -> str:
    """The scope of a test; tests of one scope run in one process, one after the other."""
    file = nodeid.partition("::")[0]
    for folder in STACKS:
        if file.startswith(folder):
            return folder
    if file.startswith(INTEGRATION):
        return f"{INTEGRATION} on stack {2 if file in SECOND else 1}"
    return file


class Balanced(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the next scope to the next free process."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


class Durations:
    """Adds up the seconds of every scope, including set-up and tear-down."""

    def __init__(self, selection: str) -> None:
        self.selection = selection
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[scope(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        seconds = {name: round(seconds, 1) for name, seconds in sorted(self.seconds.items())}
        RECORD.write_text(json.dumps({**recorded(), self.selection: seconds}, indent=0, sort_keys=True) + "\n")


def recorded() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.json")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations(config.option.markexpr))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Balanced:
    return Balanced(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the longest scopes first, so that none of them runs alone at the end. The sort is stable.

    The two stacks always come first, so that each gets a process, and with it a stack, of its own.
    """
    seconds = recorded().get(config.option.markexpr, {})

    def place(item: pytest.Item) -> tuple[bool, float]:
        name = scope(item.nodeid)
        return not name.startswith(f"{INTEGRATION} on"), -seconds.get(name, 0.0)

    items.sort(key=place)
