"""Virtual environments, and installing into them with uv, or with pip if uv is missing. Standard library only."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 12)


class SetupError(Exception):
    """A step of the setup failed; the message says what to do."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print one line: the title at the start, the seconds at the end."""
    print(f"  {title} …", end=" ", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - began:.1f} s", flush=True)


def run(command: Sequence[str | Path], *, timeout: float = 3600, **environment: str) -> str:
    """Run the command and return its standard output. Raises SetupError with the end of its output if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout
        )
    except FileNotFoundError as error:
        raise SetupError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"`{' '.join(words)}` was stopped: it had not ended after {timeout:.0f} s") from error
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise SetupError(f"`{' '.join(words)}` failed:\n{tail}")
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment at `path`; `uv` is the path of uv, or None if only pip is available."""

    path: Path
    uv: str | None

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def install(self, *arguments: str | Path) -> None:
        if self.uv:
            run([self.uv, "pip", "install", "--python", self.python, *arguments])
        else:
            run([self.python, "-m", "pip", "install", "--disable-pip-version-check", *arguments])

    def version(self, package: str) -> str | None:
        """The installed version with its local part; None if the package is missing."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        try:
            return run([self.python, "-c", code]).strip()
        except SetupError:
            return None

    def freeze(self) -> list[str]:
        """Every installed package as `name==version`, sorted by name."""
        if self.uv:
            listed = run([self.uv, "pip", "freeze", "--python", self.python])
        else:
            listed = run([self.python, "-m", "pip", "freeze", "--all"])
        return sorted(listed.split("\n"), key=str.lower)


def create(path: Path) -> Environment:
    """The environment at `path`. Creates it with this Python if it is missing, and installs uv if possible."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"Expected Python 3.11 or 3.12, found {sys.version.split()[0]} at {sys.executable}: "
            "install one of them and run `make install PYTHON=/path/to/python3.11`."
        )
    if not (path / "bin" / "python").exists():
        with step(f"environment {path.name} with Python {sys.version.split()[0]}"):
            run([sys.executable, "-m", "venv", "--clear", path])
    return Environment(path, find_uv() or _bootstrap_uv(path))


def create_beside(path: Path) -> Environment:
    """An environment in addition to .venv: created quickly and without pip if uv is available."""
    if not (uv := find_uv()):
        return create(path)
    if not (path / "bin" / "python").exists():
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, path])
    return Environment(path, uv)


def find_uv() -> str | None:
    """uv on the PATH, or the one in .venv."""
    return shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".venv" / "bin"))


def _bootstrap_uv(path: Path) -> str | None:
    try:
        with step("uv, which installs faster"):
            run([path / "bin" / "python", "-m", "pip", "install", "--upgrade", "pip", "uv"], timeout=300)
    except SetupError:
        print("  uv cannot be installed: pip is used instead", flush=True)
    return shutil.which("uv", path=str(path / "bin"))
