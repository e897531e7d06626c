"""Shared code of the benchmarks. Importing it puts the package, the demo and the tests' tiny model on sys.path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT)]
