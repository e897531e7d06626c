"""What an interrupted run of a long benchmark has finished, so that the next run goes on from there.

    finished = Finished.of("standard_cl", options)
    pool.submit(finished.call, Outcome, chain.follow, world, order, seed=1)
    finished.forget()

The results lie in .cache/benchmarks until the benchmark is complete. They count only for the same arguments and the
same source files, so a table never mixes figures of different code.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from common import ROOT

CACHE = ROOT / ".cache" / "benchmarks"
SOURCES = ("plugins/learning_engine", "benchmarks", "demo")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Finished:
    """Results in `folder`, a file for each call."""

    folder: Path

    @classmethod
    def of(cls, benchmark: str, options: argparse.Namespace) -> "Finished":
        """What earlier runs of `benchmark` with the same options and sources have finished; prints how much."""
        found = cls(CACHE / f"{benchmark}-{_digest(repr(sorted(vars(options).items())))[:16]}")
        if count := len(list(found.folder.glob("*.json"))):
            print(f"{count} results of an interrupted run are used: {found.folder}")
        return found

    def call(self, kind: Callable[..., Result], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Result:
        """The result of `function`, read from its file if there is one; `kind` is the dataclass
        that it returns."""
        called = repr((function.__qualname__, args, sorted(kwargs.items())))
        path = self.folder / f"{hashlib.sha256(called.encode()).hexdigest()}.json"
        if not path.is_file():
            result = function(*args, **kwargs)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(asdict(result)))
            partial.replace(path)
        return kind(**json.loads(path.read_text()))

    def forget(self) -> None:
        """Delete the results: the next run measures everything again."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _digest(options: str) -> str:
    """Of the options and of every source file that the figures depend on."""
    digest = hashlib.sha256(options.encode())
    for path in sorted(path for source in SOURCES for path in (ROOT / source).rglob("*.py")):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
