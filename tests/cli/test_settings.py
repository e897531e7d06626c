"""`config show` and `config check`: settings, their origins and their validation."""

from pathlib import Path

import pytest
import yaml

from learning_engine import config
from learning_engine.cli import exit_codes
from tests.cli.conftest import Run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "learning-engine.yaml"
    path.write_text("training: {epochs: 2, learning_rate: 1.0e-4}\ndeploy: approve\n")
    monkeypatch.setenv(config.FILE_VARIABLE, str(path))
    return path


def line(shown: str, key: str) -> str:
    (found,) = (line.strip() for line in shown.splitlines() if line.strip().startswith(f"{key}:"))
    return found


def test_show_names_the_origin_of_changed_settings(anonymous: Run, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING__EPOCHS", "5")
    monkeypatch.setenv("LEARNING_ENGINE__GATE", '{"min_heldout": 3}')
    monkeypatch.setenv("LEARNING_ENGINE__DAG__ON_FAILURE_ARGUMENTS", '{"to": "ml@example.org: #1"}')
    done = anonymous("config", "show")
    assert done.code == exit_codes.DONE
    assert line(done.out, "epochs") == "epochs: 5.0  # LEARNING_ENGINE__TRAINING__EPOCHS"
    assert line(done.out, "learning_rate") == f"learning_rate: 0.0001  # {file}"
    assert line(done.out, "min_heldout") == "min_heldout: 3  # LEARNING_ENGINE__GATE"
    assert line(done.out, "to") == 'to: "ml@example.org: #1"  # LEARNING_ENGINE__DAG__ON_FAILURE_ARGUMENTS'
    assert line(done.out, "deploy") == f'deploy: "approve"  # {file}'
    assert line(done.out, "min_retained") == "min_retained: 0.2"


def test_show_prints_an_equivalent_file(anonymous: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE__EWC__LAMBDA", "300")
    before, shown = config.load(), anonymous("config", "show").out
    monkeypatch.delenv("LEARNING_ENGINE__EWC__LAMBDA")
    assert config.load() != before
    file.write_text(shown)
    assert config.load() == before
    assert yaml.safe_load(shown)["ewc"]["lambda"] == 300


def test_show_as_json(anonymous: Run, file: Path):
    shown = anonymous("config", "show", "--json").json
    assert shown["file"] == str(file)
    assert shown["settings"]["training"]["epochs"] == 2.0
    assert shown["origins"] == dict.fromkeys(("training.epochs", "training.learning_rate", "deploy"), str(file))


def test_the_default_file_equals_the_defaults_in_code(anonymous: Run):
    assert anonymous("config", "show", "--json").json["origins"] == {}


def test_secrets_are_not_shown(anonymous: Run, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEARNING_ENGINE__WEB__TOKEN", "a-token-that-nobody-may-see-here")
    for words in (("show",), ("show", "--json"), ("check",)):
        done = anonymous("config", *words)
        assert done.code == exit_codes.DONE
        assert "nobody-may-see" not in done.out + done.err
    assert line(anonymous("config", "show").out, "token") == 'token: "**********"  # LEARNING_ENGINE__WEB__TOKEN'


def test_check_reports_each_problem_and_its_origin(anonymous: Run, file: Path, monkeypatch: pytest.MonkeyPatch):
    done = anonymous("config", "check")
    assert (done.code, done.out) == (exit_codes.DONE, "")
    assert done.err == f"Valid: {file}, overridden by 0 environment variables.\n"
    assert anonymous("config", "check", "--json").json == {"file": str(file), "valid": True, "problems": []}
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING__EPOCHS", "-1")
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING__LEARNING_RATE", "9")
    done = anonymous("config", "check", "--json")
    assert (done.code, done.json["valid"]) == (exit_codes.FAILED, False)
    assert {problem.split(":")[0] for problem in done.json["problems"]} == {"training.learning_rate", "training.epochs"}
    assert "found '-1' in the environment variable LEARNING_ENGINE__TRAINING__EPOCHS" in done.err
    assert anonymous("config", "show").code == exit_codes.FAILED


def test_a_missing_file_is_named(anonymous: Run, file: Path):
    file.unlink()
    done = anonymous("config", "check")
    assert done.code == exit_codes.FAILED
    assert f"Expected the configuration file {file}, found none" in done.err
