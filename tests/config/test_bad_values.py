"""A bad value is refused and named with its key, its bound and where it came from."""

from typing import Any

import pytest

from tests.config.conftest import Write, refusal, variable

# Path of the setting, a bad value, the part of the message that names its bound.
BAD: list[tuple[str, Any, str]] = [
    ("feedback.min_samples", 0, "greater than or equal to 1"),
    ("feedback.min_samples", "many", "integer"),
    ("feedback.source", "mysql", "'postgres' or 'file'"),
    ("feedback.table", "feedback; drop", "match pattern"),
    ("feedback.columns.user", "user id", "match pattern"),
    ("feedback.slices.language", "metadata.language", "expected a column, or a path such as 'request."),
    ("feedback.slices.language", "request..language", "expected a column, or a path such as 'request."),
    ("dataset.heldout_fraction", 0.6, "less than or equal to 0.5"),
    ("model.revision", "main", "match pattern"),
    ("lora.dropout", 1.0, "less than 1"),
    ("fisher.structure", "full", "'diagonal'"),
    ("fisher.labels", "guessed", "'sampled' or 'observed'"),
    ("fisher.decay", 1.5, "less than or equal to 1"),
    ("ewc.lambda", -1, "greater than or equal to 0"),
    ("ewc.lambda", 1e10, "less than or equal to 1000000000"),
    ("training.epochs", 0, "greater than 0"),
    ("training.learning_rate", 2, "less than or equal to 1"),
    ("training.seed", -1, "greater than or equal to 0"),
    ("gate.min_retained", 1.1, "less than or equal to 1"),
    ("window.max_days", 0, "greater than 0"),
    ("dag.schedule", "weekly please", "cron expression"),
    ("dag.timezone", "Mars/Olympus", "IANA"),
    ("dag.train_queue", "two words", "match pattern"),
    ("store.bucket", "UPPER", "match pattern"),
    ("store.prefix", "../other", "match pattern"),
    ("serving.drain_seconds", -1, "greater than or equal to 0"),
    ("deploy", "maybe", "'auto', 'approve' or 'never'"),
]
BAD_PARAMS: list[tuple[str, str, Any, str]] = [
    ("min_samples", "feedback.min_samples", 0, "greater than or equal to 1"),
    ("ewc_lambda", "ewc.lambda", -0.5, "greater than or equal to 0"),
    ("epochs", "training.epochs", 1001, "less than or equal to 1000"),
    ("learning_rate", "training.learning_rate", 0, "greater than 0"),
    ("base_model", "model.base", "", "at least 1"),
    ("deploy", "deploy", "now", "'auto', 'approve' or 'never'"),
]


@pytest.mark.parametrize(("key", "value", "bound"), BAD)
def test_a_bad_value_in_the_file_is_named_with_key_value_bound_and_origin(
    file: Write, key: str, value: Any, bound: str
) -> None:
    path = file({key: value})
    message = refusal()
    assert message.startswith(f"{key}: ")
    assert bound in message
    assert message.endswith(f"found {value!r} in the file {path}")


@pytest.mark.parametrize(("key", "value", "bound"), BAD)
def test_a_bad_value_in_the_environment_is_named_with_key_value_bound_and_origin(
    file: Write, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, bound: str
) -> None:
    monkeypatch.setenv(variable(key), str(value))
    message = refusal()
    assert message.startswith(f"{key}: ")
    assert bound in message
    assert f"found {str(value)!r} in" in message
    assert message.endswith(f"the environment variable {variable(key)}")


def test_a_bad_value_in_a_variable_of_a_whole_section_is_named_with_that_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__TRAINING", '{"epochs": 0}')
    assert refusal().endswith("found 0 in the environment variable LEARNING_ENGINE__TRAINING")


@pytest.mark.parametrize(("param", "key", "value", "bound"), BAD_PARAMS)
def test_a_bad_param_is_named_with_key_value_bound_and_origin(
    file: Write, monkeypatch: pytest.MonkeyPatch, param: str, key: str, value: Any, bound: str
) -> None:
    monkeypatch.setenv(variable(key), "never" if key == "deploy" else "1")
    message = refusal({param: value})
    assert message.startswith(f"{key}: ")
    assert bound in message
    assert message.endswith(f"found {value!r} in the run's param {param!r}")


def test_a_bad_secret_is_named_and_not_repeated(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__WEB__TOKEN", "hunter2")
    message = refusal({})
    assert message.startswith("web.token: ")
    assert "16" in message
    assert message.endswith("found a text of 7 characters in the environment variable LEARNING_ENGINE__WEB__TOKEN")
    assert "hunter2" not in message


def test_every_bad_value_is_named_at_once(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file({"ewc.lambda": -1})
    monkeypatch.setenv("LEARNING_ENGINE__LORA__RANK", "0")
    lines = refusal({"epochs": 0}).splitlines()
    assert [line.split(":")[0] for line in lines] == ["lora.rank", "ewc.lambda", "training.epochs"]


def test_more_than_four_slices_and_odd_names_are_refused(file: Write) -> None:
    file({"feedback.slices": dict.fromkeys("abcde", "language")})
    assert "feedback.slices: " in refusal()
    assert "at most 4" in refusal()
    file({"feedback.slices": {"a=b": "language"}})
    assert "feedback.slices.a=b" in refusal()
