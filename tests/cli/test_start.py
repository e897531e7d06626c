"""Start-up: no heavy imports, shell completion, installation of the command."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import learning_engine
from include.setup import install, packages
from tests.cli.conftest import Run
from tests.cli.stub import Stub
from tests.conftest import ROOT

HEAVY = {"airflow", "torch", "boto3", "pyarrow", "pydantic_settings", "numpy", "requests", "rich"}
PACKAGE = ROOT / "plugins" / "learning_engine" / "cli"


def modules(*arguments: str, **environment: str) -> set[str]:
    """The top-level modules that a command imports."""
    code = (
        "import json, sys; from learning_engine.cli import main; main(sys.argv[1:]);"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "plugins"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy():
    assert not modules("--help") & HEAVY


def test_a_request_imports_only_requests_and_rich(stub: Stub):
    taken = modules("health", LEARNING_ENGINE_URL=stub.url, LEARNING_ENGINE_TOKEN="token-of-admin", NO_PROXY="*")
    assert taken & HEAVY == {"requests", "rich"}


def test_the_cli_imports_only_config_and_errors_of_the_package():
    names: set[str] = set()
    for file in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("learning_engine"):
                whole = node.module == "learning_engine"
                names |= {f"learning_engine.{alias.name}" for alias in node.names} if whole else {node.module or ""}
    assert {name for name in names if not name.startswith("learning_engine.cli")} == {
        "learning_engine.config",
        "learning_engine.errors",
    }


def test_version_is_printed(anonymous: Run):
    assert anonymous("--version").out == f"{learning_engine.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_subcommands(shell: str, home: Path):
    program = [sys.executable, "-P", "-m", "learning_engine.cli"]
    done = subprocess.run(
        program,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "plugins"),
            "_LEARNING_ENGINE_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "learning-engine adapters ",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": "learning-engine adapters ",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert {"list", "show", "download"} <= set(done.stdout.replace('"', " ").replace(":", " ").split())


def test_a_partial_version_is_completed(stub: Stub):
    environment = {
        "_LEARNING_ENGINE_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "learning-engine adapters show v1.",
        "LEARNING_ENGINE_URL": stub.url,
        "LEARNING_ENGINE_TOKEN": "token-of-admin",
        "PYTHONPATH": str(ROOT / "plugins"),
        "NO_PROXY": "*",
    }
    program = [sys.executable, "-P", "-m", "learning_engine.cli"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert "v1.1" in done.stdout, done.stderr
    assert done.stderr == ""


def test_version_completion_asks_the_server(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    from learning_engine.cli.options import _known

    assert _known("v1.") == ["v1.1", "v1.0"]
    assert _known("v1.0") == ["v1.0"]
    stub.expired.add("admin")
    assert _known("v1.") == []


def test_the_package_declares_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"learning-engine": "learning_engine.cli:main"}


def test_make_install_puts_the_command_into_the_environment(tmp_path: Path):
    """Works with a space in the path, and from any directory, whatever it contains."""
    place = tmp_path / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = (place / "lib").glob("python*/site-packages")
    (site / "all.pth").write_text(f"{Path(typer.__file__).parents[1]}\n")
    install.write_command(packages.Environment(place, uv=None))
    (tmp_path / "typer.py").write_text("raise SystemExit('taken from the working directory')")
    for program in (place / "bin" / "learning-engine", tmp_path / "linked"):
        if not program.exists():
            program.symlink_to(place / "bin" / "learning-engine")
        done = subprocess.run(
            [program, "--version"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, f"{learning_engine.__version__}\n"), done.stderr
