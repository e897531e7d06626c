"""The peers' libraries, in a directory of their own: .cache/bench-peers, made from requirements-peers.txt.

It comes last on the path and holds nothing that .venv has, so that both see the same torch and .venv stays as it is.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

from common import ROOT

REQUIREMENTS = ROOT / "benchmarks" / "requirements-peers.txt"
DIRECTORY = ROOT / ".cache" / "bench-peers"


def ready(*names: str, install: bool = True) -> dict[str, bool]:
    """Put the peers on the path and say which of the modules `names` are there, once installed where `install`."""
    stamp = DIRECTORY / REQUIREMENTS.name
    if install and not (stamp.is_file() and stamp.read_text() == REQUIREMENTS.read_text()):
        _install(stamp)
    if str(DIRECTORY) not in sys.path:
        sys.path.append(str(DIRECTORY))
        importlib.invalidate_caches()
    return {name: importlib.util.find_spec(name) is not None for name in names}


def _install(stamp: Path) -> None:
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--retries", "1")
    where = ("--no-deps", "--upgrade", "--target", str(DIRECTORY), "--requirement", str(REQUIREMENTS))
    done = subprocess.run((*pip, *where), capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        print(f"The peers of {REQUIREMENTS.name} cannot be installed, so that their rows stay open: {said[0]}")
    else:
        stamp.write_text(REQUIREMENTS.read_text())
