"""The effective configuration: YAML, environment and a run's params in order of precedence, and what is refused."""

from pathlib import Path

import pytest

from learning_engine import config
from tests.config.conftest import Write, refusal, variable

REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_the_environment_overrides_the_file_and_params_override_both(
    file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.load().ewc.lambda_ == "auto"
    file({"ewc.lambda": 1, "training.epochs": 1, "training.seed": 1})
    assert config.load().ewc.lambda_ == 1
    monkeypatch.setenv("LEARNING_ENGINE__EWC__LAMBDA", "2")
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING__EPOCHS", "2")
    settings = config.load({"ewc_lambda": 3, "epochs": None, "window_start": "2026-01-05", "force": "count"})
    assert (settings.ewc.lambda_, settings.training.epochs, settings.training.seed) == (3, 2, 1)


@pytest.mark.parametrize(
    "key",
    [
        "traning.epochs",
        "training.epoch",
        "lambda",
        "feedback.columns.usr",
    ],
)
def test_an_unknown_key_in_the_file_is_refused(file: Write, key: str) -> None:
    file({key: 3})
    message = refusal()
    assert message.startswith(key.split(".")[0])
    assert "not permitted" in message


def test_an_unknown_section_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__TRANING__EPOCHS", "3")
    assert refusal().startswith("LEARNING_ENGINE__TRANING__EPOCHS names no section")


def test_an_unknown_key_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING__EPOCH", "3")
    assert refusal().endswith("the environment variable LEARNING_ENGINE__TRAINING__EPOCH")


def test_null_in_the_environment_removes_the_files_value(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file({"fisher.anchor": "/anchor.jsonl", "gate.max_kl_base": 3})
    assert config.load().fisher.anchor == "/anchor.jsonl"
    monkeypatch.setenv("LEARNING_ENGINE__FISHER__ANCHOR", "null")
    monkeypatch.setenv("LEARNING_ENGINE__GATE__MAX_KL_BASE", "null")
    assert (config.load().fisher.anchor, config.load().gate.max_kl_base) == (None, None)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.FILE_VARIABLE, str(tmp_path / "none.yaml"))
    message = refusal()
    assert str(tmp_path / "none.yaml") in message
    assert config.FILE_VARIABLE in message


@pytest.mark.parametrize(
    "content",
    [
        "ewc: [",
        "- a list",
        "just text",
    ],
)
def test_an_invalid_configuration_file_is_named(file: Write, content: str) -> None:
    path = file({})
    path.write_text(content)
    assert str(path) in refusal()


def test_an_empty_file_gives_the_defaults(file: Write) -> None:
    file({}).write_text("")
    assert config.load().lora.rank == 16


def test_another_base_model_drops_the_configured_revision(file: Write) -> None:
    file({"model.base": "mine/base", "model.revision": REVISION, "model.dtype": "float32"})
    other = config.load({"base_model": "other/base"}).model
    assert (other.base, other.revision, other.dtype) == ("other/base", None, "float32")
    assert config.load({"base_model": "mine/base"}).model.revision == REVISION
    assert config.load({}).model.revision == REVISION


def test_the_drain_must_fit_into_the_steps_time_out(file: Write) -> None:
    file({"dag.step_timeout_minutes": 2, "serving.drain_seconds": 119})
    assert config.load().serving.drain_seconds == 119
    file({"dag.step_timeout_minutes": 2, "serving.drain_seconds": 120})
    assert "serving.drain_seconds must be below dag.step_timeout_minutes" in refusal()


def test_a_feedback_file_needs_its_path(file: Write) -> None:
    file({"feedback.source": "file"})
    assert "needs feedback.path" in refusal()


def test_one_sample_may_be_enough() -> None:
    assert config.load({"min_samples": 1}).feedback.min_samples == 1


def test_the_order_of_the_target_modules_does_not_matter(file: Write) -> None:
    file({"lora.target_modules": ["v_proj", "q_proj"]})
    assert config.load().lora.target_modules == ("q_proj", "v_proj")
    file({"lora.target_modules": ["q_proj", "q_proj"]})
    assert "no duplicates" in refusal()


@pytest.mark.parametrize(
    ("key", "value", "changes"),
    [
        ("ewc.lambda", "301", True),
        ("training.seed", "18", True),
        ("gate.epsilon", "0.1", True),
        ("fisher.decay", "0.5", True),
        ("dag.train_queue", "other", False),
        ("dag.retries", "7", False),
        ("store.read_timeout_seconds", "61", False),
        ("serving.drain_seconds", "1", False),
        ("connections.store", "other", False),
        ("feedback.min_samples", "1", False),
    ],
)
def test_the_fingerprint_covers_exactly_what_an_adapter_depends_on(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, changes: bool
) -> None:
    before = config.digest(config.load().fingerprint())
    monkeypatch.setenv(variable(key), value)
    assert (config.digest(config.load().fingerprint()) != before) is changes


def test_a_digest_depends_on_the_content_and_not_on_the_order() -> None:
    assert config.digest({"a": 1, "b": "λ"}) == config.digest({"b": "λ", "a": 1})
    assert config.digest({"a": 1}) != config.digest({"a": 2})
    assert len(config.digest(None)) == 64


def test_older_settings_are_still_accepted(file: Write, caplog: pytest.LogCaptureFixture) -> None:
    file({"fisher.structure": "kfac", "fisher.accumulation": "list"})
    assert config.load().fisher.structure == "kronecker"
    assert "fisher.accumulation" in caplog.text


def test_a_number_of_rows_to_replay_is_read_as_the_rows_kept(file: Write, caplog: pytest.LogCaptureFixture) -> None:
    file({"training.replay": 16})
    training = config.load().training
    assert (training.replay, training.replay_rows) == (0.5, 16)
    assert "set it to 0.5 and training.replay_rows to 16" in caplog.text
