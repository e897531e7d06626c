"""Set up this repository's environments on a machine with only Python 3.11 or 3.12. Run by `make install`.

    python3 -m include.setup.install environment    .venv: PyTorch for this machine, then the locked requirements
    python3 -m include.setup.install swift          .swift-venv: the S3 store of tests and demo
    python3 -m include.setup.install lock           requirements.lock and .hashes: the newest versions in the ranges

PyTorch is installed first and alone: the default build pulls in gigabytes of CUDA, which only a GPU machine needs.
"""

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from include.setup.packages import ROOT, Environment, SetupError, create, create_beside, run, step

LOCK = ROOT / "requirements.lock"
HASHES = ROOT / "requirements.hashes"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
SWIFT = ROOT / "requirements-swift.txt"
LOCK_HEAD = """\
# The exact versions that the tests ran on: constraints for requirements.txt and requirements-dev.txt. Written by
# `make lock`. torch has no build (+cpu, +cu130): the installer picks the one for the machine.
"""
HASHES_HEAD = """\
# requirements.lock with the sha256 of every file of each package: the constraints of `make install` with uv. Written by
# `make lock`. torch and the packages of its CUDA build are not listed: their build depends on the machine.
"""


def environment() -> None:
    """Create .venv, or update it to the lock."""
    venv = create(ROOT / ".venv")
    _torch(venv, _locked("torch"), cuda=has_cuda())
    _packages(venv)
    write_command(venv)


def _packages(venv: Environment) -> None:
    """Install the locked packages. Only uv checks hashes: pip accepts them only if every requirement is pinned."""
    checked = "checked against their hashes" if venv.uv else "hashes not checked, since uv is missing"
    with step(f"{len(_lock_lines())} locked packages, {checked}"):
        venv.install(*_requirements(venv), "--constraint", HASHES if venv.uv else LOCK)


def write_command(venv: Environment) -> None:
    """Write the command `learning-engine` into the environment.

    It is a script, not an editable install. An editable install would put plugins/ on the path of every program of this
    environment, and the tests would not notice when Airflow cannot find the package.
    """
    words = (f"PYTHONPATH={shlex.quote(str(ROOT / 'plugins'))}", "exec", shlex.quote(str(venv.python.absolute())))
    program = venv.path / "bin" / "learning-engine"
    program.write_text(f'#!/bin/sh\n# Written by `make install`.\n{" ".join(words)} -P -m learning_engine.cli "$@"\n')
    program.chmod(0o755)


def swift() -> None:
    """Create .swift-venv. If that fails, print that tests and demo use a mock instead."""
    consequence = "the demo and the tests use moto's server, a mock, as their S3 store"
    if platform.system() != "Linux":
        print(f"  OpenStack Swift runs on Linux only: {consequence}", flush=True)
        return
    if not SWIFT.exists():
        print(f"  {SWIFT.name} is missing: {consequence}", flush=True)
        return
    try:
        venv = create_beside(ROOT / ".swift-venv")
        with step("OpenStack Swift, a real S3 store"):
            venv.install("--requirement", SWIFT)
    except SetupError as error:
        print(f"  OpenStack Swift cannot be installed: {consequence}\n{error}", flush=True)
        shutil.rmtree(ROOT / ".swift-venv", ignore_errors=True)


def lock() -> None:
    """Resolve the ranges in a fresh environment and write the versions to the lock."""
    path = ROOT / ".cache" / "lock-venv"
    shutil.rmtree(path, ignore_errors=True)
    venv = create(path)
    _torch(venv, _locked("torch"), cuda=has_cuda())
    with step("the newest packages within the ranges"):
        venv.install(*_requirements(venv))
    write_lock(venv)
    write_hashes(venv)
    shutil.rmtree(path)
    print(f"  {LOCK.name} and {HASHES.name} are updated: run `make install test`, then commit them", flush=True)


def write_lock(venv: Environment) -> None:
    """Write the packages of `venv`, except the installers, as constraints."""
    lines = [re.sub(r"\+\S+$", "", line) for line in venv.freeze() if "==" in line]
    kept = [line for line in lines if not re.match(r"(pip|uv)==", line)]
    LOCK.write_text(LOCK_HEAD + "\n".join(kept) + "\n")


def write_hashes(venv: Environment) -> None:
    """Write the locked versions with the index's hashes of all their files, except PyTorch."""
    if not venv.uv:
        raise SetupError(
            "Expected uv, which reads the hashes from the index; found none: run `pip install uv`, then try again."
        )
    wanted = venv.path / "hashed.txt"
    wanted.write_text("\n".join(line for line in _lock_lines() if not line.startswith("torch==")))
    with step("the hashes of their files"):
        options = ("--no-deps", "--generate-hashes", "--no-annotate", "--no-header", "--quiet")
        found = run([venv.uv, "pip", "compile", "--python", venv.python, *options, wanted])
    HASHES.write_text(HASHES_HEAD + found)


def has_cuda() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    if Path("/dev/nvidia0").exists():
        return True
    if not (program := shutil.which("nvidia-smi")):
        return False
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    return listed.returncode == 0 and "GPU" in listed.stdout


def is_cpu_build(package: dict[str, Any], system: str) -> bool:
    """Whether an entry of pip's report is a PyTorch without CUDA, judging by its version and requirements."""
    if system != "Linux" or package["version"].endswith("+cpu"):
        return True
    requirements = package.get("requires_dist") or []
    return "+" not in package["version"] and not any(
        re.match(r"(nvidia|cuda)[-_]", line.lower()) for line in requirements
    )


def _torch(venv: Environment, version: str, *, cuda: bool) -> None:
    """Install PyTorch `version`: the default build if there is a GPU, otherwise only a build for the CPU."""
    found = venv.version("torch")
    if found and found.split("+")[0] == version:
        return
    if cuda:
        with step(f"PyTorch {version} with CUDA, since this machine has a GPU"):
            venv.install(f"torch=={version}")
        return
    if venv.uv and _index_has_cpu_build(venv, version):
        with step(f"PyTorch {version} for the CPU"):
            venv.install("--torch-backend=cpu", f"torch=={version}")
        return
    pip = (str(venv.python), "-m", "pip", "install", "--disable-pip-version-check")
    dry_run = ("--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-")
    with step(f"check which build of PyTorch {version} pip would install"):
        report = run([*pip, *dry_run, f"torch=={version}"])
    package = json.loads(report)["install"][0]["metadata"]
    if not is_cpu_build(package, platform.system()):
        raise SetupError(
            f"Expected PyTorch {version} for the CPU, since this machine has no NVIDIA GPU; found {package['version']} "
            "with CUDA, several gigabytes. Give this machine access to PyTorch's package index, or put a CPU wheel "
            "where pip finds it (PIP_FIND_LINKS=/directory make install), or install torch "
            f"{version} into .venv manually; then run `make install` again."
        )
    with step(f"PyTorch {package['version']}"):
        run([*pip, f"torch=={package['version']}"])


def _index_has_cpu_build(venv: Environment, version: str) -> bool:
    """Whether uv reaches PyTorch's index: one attempt of at most 30 s, without downloading."""
    command = (str(venv.uv), "pip", "install", "--python", str(venv.python), "--dry-run", "--torch-backend=cpu")
    try:
        run([*command, f"torch=={version}"], timeout=30, UV_HTTP_RETRIES="0", UV_HTTP_TIMEOUT="10")
    except SetupError:
        return False
    return True


def _requirements(venv: Environment) -> list[str | Path]:
    """Both requirement files, with PyTorch pinned to the installed build, so that nothing pulls in another."""
    pin = venv.path / "torch.txt"
    pin.write_text(f"torch=={venv.version('torch')}\n")
    return [word for file in REQUIREMENTS for word in ("--requirement", file)] + ["--constraint", pin]


def _lock_lines() -> list[str]:
    return [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]


def _locked(package: str) -> str:
    return next(line.split("==")[1] for line in _lock_lines() if line.startswith(f"{package}=="))


COMMANDS = {"environment": environment, "swift": swift, "lock": lock}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(__doc__)
        return 2
    try:
        COMMANDS[arguments[0]]()
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
