"""Install the peers' libraries from requirements-peers.txt into a separate directory, .cache/bench-peers.

It comes last on sys.path and holds nothing that is in .venv, so that both use the same torch and .venv is unchanged.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

from common import ROOT

REQUIREMENTS = ROOT / "benchmarks" / "requirements-peers.txt"
DIRECTORY = ROOT / ".cache" / "bench-peers"


def ready(*names: str, install: bool = True) -> dict[str, bool]:
    """Put the peers on sys.path, installing them first if `install`. Returns which of the modules `names` exist."""
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
        reason = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        print(f"The peers of {REQUIREMENTS.name} cannot be installed, so their rows stay open: {reason[0]}")
    else:
        stamp.write_text(REQUIREMENTS.read_text())
