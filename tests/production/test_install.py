"""The installer never installs CUDA on a machine without a GPU, and reports its steps."""

import ensurepip
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from include.setup import counterparts, install, packages
from tests.production.conftest import ROOT

CUDA = ["filelock", 'nvidia-cublas==13.1; platform_system == "Linux"', 'triton==3.7; platform_system == "Linux"']


@pytest.mark.parametrize(
    ("version", "requires", "system", "expected"),
    [
        ("2.13.0+cpu", ["filelock"], "Linux", True),
        ("2.13.0", ["filelock"], "Linux", True),
        ("2.13.0", CUDA, "Linux", False),
        ("2.13.0", ["cuda-toolkit[cublas]==13.0"], "Linux", False),
        ("2.13.0+cu130", None, "Linux", False),
        ("2.13.0", CUDA, "Darwin", True),
    ],
)
def test_a_cpu_build_is_distinguished_from_a_cuda_build(
    version: str, requires: list[str] | None, system: str, expected: bool
) -> None:
    assert install.is_cpu_build({"version": version, "requires_dist": requires}, system) is expected


def wheel(directory: Path, version: str, *requires: str) -> None:
    """Write an empty wheel of torch with that version."""
    info = f"torch-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    with zipfile.ZipFile(directory / f"torch-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", head + "".join(f"Requires-Dist: {line}\n" for line in requires))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> packages.Environment:
    """An empty environment whose pip sees the wheels in `wheels/` and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # pip runs from its wheel: installing it would take seconds.
    (site / "pip.pth").write_text(str(next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))))
    (tmp_path / "wheels").mkdir()
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return packages.Environment(tmp_path / "venv", uv=None)


def test_pip_installs_a_cpu_build_and_refuses_a_cuda_build(venv: packages.Environment, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "2.13.0", "nvidia-cublas==13.1")
    with pytest.raises(packages.SetupError, match=r"found 2\.13\.0 with CUDA"):
        install._torch(venv, "2.13.0", cuda=False)
    assert venv.version("torch") is None

    wheel(tmp_path / "wheels", "2.13.0+cpu")
    install._torch(venv, "2.13.0", cuda=False)
    assert venv.version("torch") == "2.13.0+cpu"


@pytest.mark.skipif(packages.find_uv() is None, reason="pip does not check the hashes of constraints")
def test_a_package_that_does_not_match_the_locked_hash_is_refused(
    venv: packages.Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels", "2.13.0")
    (built,) = (tmp_path / "wheels").iterdir()
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    files = [tmp_path / name for name in ("requirements.txt", "requirements.hashes")]
    monkeypatch.setattr(install, "REQUIREMENTS", files[:1])
    monkeypatch.setattr(install, "HASHES", files[1])
    monkeypatch.setattr(install, "_requirements", lambda _: ["--requirement", files[0]])
    files[0].write_text("torch>=2\n")
    checking = packages.Environment(venv.path, uv=packages.find_uv())

    files[1].write_text(f"torch==2.13.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(packages.SetupError, match=r"(?i)hash mismatch"):
        install._packages(checking)
    files[1].write_text(f"torch==2.13.0 --hash=sha256:{hashlib.sha256(built.read_bytes()).hexdigest()}\n")
    install._packages(checking)
    assert venv.version("torch") == "2.13.0"


def test_a_failing_step_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(packages.SetupError, match="exit 3` failed:\nwhy"), packages.step("a step"):
        packages.run(["sh", "-c", "echo why >&2; exit 3"])
    assert capsys.readouterr().out == "  a step … failed\n"


def test_a_missing_counterpart_is_reported_and_fails_only_in_ci(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise packages.SetupError("it is missing")

    monkeypatch.setattr(counterparts, "PARTS", (counterparts.Part("MAX Serve", "its tests are skipped", absent),))
    monkeypatch.setenv("CI", "")
    assert counterparts.main() == 0
    assert "missing: MAX Serve: its tests are skipped.\n    it is missing" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert counterparts.main() == 1


class TestMakefile:
    """The Makefile, in a directory whose programs only print their arguments."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        names = [f"requirements{end}" for end in (".txt", "-dev.txt", ".lock", ".hashes", "-swift.txt")]
        for name in (*names, "Makefile", "include/setup/install.py", "include/setup/packages.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        for environment in (".venv/bin", ".swift-venv"):
            (tmp_path / environment).mkdir(parents=True)
        for name in ("python", "ruff", "mypy", "lint-imports"):
            program = tmp_path / ".venv" / "bin" / name
            program.write_text(f'#!/bin/sh\necho "{name} $*"\nexit "${{CODE:-0}}"\n')
            program.chmod(0o755)
        for environment in (".venv", ".swift-venv"):
            (tmp_path / environment / ".installed").touch()
        return tmp_path

    def make(self, tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["make", f"PYTHON={tree}/.venv/bin/python", *words]
        path = {"PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(command, cwd=tree, env=path, capture_output=True, text=True, timeout=60)

    def test_help_lists_every_target(self, tree: Path) -> None:
        phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
        listed = [line.split()[1] for line in self.make(tree).stdout.splitlines()]
        assert sorted(listed) == sorted(phony.split()[1:])

    def test_install_runs_again_only_if_a_requirement_changed(self, tree: Path) -> None:
        assert self.make(tree, "install").stdout == ""
        stamp = tree / ".venv" / ".installed"
        newer = stamp.stat().st_mtime + 10
        os.utime(tree / "requirements.lock", (newer, newer))
        assert self.make(tree, "install").stdout == "python -m include.setup.install environment\n"

    @pytest.mark.parametrize(("code", "expected"), [("0", 0), ("1", 2), ("5", 0)])
    def test_a_failed_test_fails_the_target_but_no_selected_test_does_not(
        self, tree: Path, code: str, expected: int
    ) -> None:
        done = self.make(tree, "test", CODE=code)
        assert done.stdout.startswith("python -m pytest ")
        assert "-m not stack and not real" in done.stdout
        assert done.returncode == expected

    def test_check_runs_its_four_programs(self, tree: Path) -> None:
        lines = self.make(tree, "check").stdout.splitlines()
        assert lines == ["ruff check .", "ruff format --check .", "mypy ", "lint-imports "]


def test_ci_runs_its_four_targets() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "for stage in check test test-stack test-real; do" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
