"""The client against the local server, recorded responses of vLLM 0.32, and misbehaving servers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from learning_engine.config.sections import Serving
from learning_engine.errors import ServingError
from learning_engine.records.probe import Probe
from learning_engine.serving.client import Replica
from tests.serving.conftest import ModelServer
from tests.serving.contract import CHAT, LOAD, MODELS, UNLOAD
from tests.serving.scripted import Answer, listing

PRIVATE = [{"role": "user", "content": "my private words"}]


def error(status: int, message: str, kind: str) -> Answer:
    """An error of vLLM, whose codes are integers."""
    return status, json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def test_the_client_works_with_the_local_server(
    pair: tuple[ModelServer, ModelServer], adapters: Path, good: list[Probe]
) -> None:
    replica = pair[0].replica
    assert replica.models()[0]
    for _ in range(2):
        replica.load("client-v1.0", str(adapters / "good"))
        assert replica.models().count("client-v1.0") == 1
    assert replica.complete("client-v1.0", good[0].messages, max_tokens=8).strip() == good[0].text.strip()
    for _ in range(2):
        replica.unload("client-v1.0")
        assert "client-v1.0" not in replica.models()


def test_the_client_works_with_vllm(scripted: Callable[..., Replica]) -> None:
    chat = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "red", "refusal": None}}]}
    replica = scripted(
        {
            MODELS: [listing("base")],
            LOAD: [(200, "Success: LoRA adapter 'v1.0' added successfully.")],
            UNLOAD: [
                (200, "Success: LoRA adapter 'v1.0' removed successfully."),
                error(404, "The lora adapter 'v1.0' cannot be found.", "NotFoundError"),
            ],
            CHAT: [(200, json.dumps(chat)), error(404, "The model `v1.0` does not exist.", "NotFoundError")],
        }
    )
    replica.load("v1.0", "/adapters/v1.0")
    assert replica.complete("v1.0", PRIVATE, max_tokens=1) == "red"
    replica.unload("v1.0")
    replica.unload("v1.0")
    with pytest.raises(ServingError, match=r"chat/completions, found 404$"):
        replica.complete("v1.0", PRIVATE, max_tokens=1)


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "The lora adapter 'v1.0' has already been loaded.", "InvalidUserInput"),
        (400, json.dumps({"object": "error", "message": "has already been loaded"})),
        (500, "has already been loaded"),
        (503, json.dumps(["has already been loaded"])),
        (307, "has already been loaded"),
    ],
)
def test_a_refusal_names_replica_call_status_and_reason(scripted: Callable[..., Replica], answer: Answer) -> None:
    replica = scripted({MODELS: [listing("base")], LOAD: [answer]})
    reason = rf"{replica}: expected 200 from POST {LOAD}, found {answer[0]}: .*has already been loaded"
    with pytest.raises(ServingError, match=reason) as caught:
        replica.load("v1.0", "/adapters/v1.0")
    assert caught.value.retryable


def test_a_long_reason_is_truncated(scripted: Callable[..., Replica]) -> None:
    replica = scripted({MODELS: [(500, "long " * 10_000)]})
    with pytest.raises(ServingError) as caught:
        replica.models()
    assert len(str(caught.value)) < 500


def test_a_reason_never_quotes_the_prompt(scripted: Callable[..., Replica]) -> None:
    quoting = error(400, "messages.0.content: input_value='my private words'", "BadRequestError")
    replica = scripted({CHAT: [quoting, (200, "my private words"), (200, '{"choices": []}')]})
    for _ in range(3):
        with pytest.raises(ServingError) as caught:
            replica.complete("v1.0", PRIVATE, max_tokens=1)
        assert "private" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(("after", "done"), [(["base", "v1.0"], True), (["base"], False)])
def test_after_a_load_without_a_response_the_list_of_models_decides(
    scripted: Callable[..., Replica], after: list[str], done: bool
) -> None:
    loads: list[Answer | None] = [None, (200, "a second load")]
    replica = scripted({MODELS: [listing("base"), listing(*after)], LOAD: loads})
    if done:
        replica.load("v1.0", "/adapters/v1.0")
    else:
        with pytest.raises(ServingError, match=r"within 0\.2 s, found none \(ReadTimeout\)"):
            replica.load("v1.0", "/adapters/v1.0")
    assert loads == [(200, "a second load")]


def test_a_worker_timeout_needs_a_restart(scripted: Callable[..., Replica]) -> None:
    late = {"error": {"code": "500", "message": "Timeout waiting for LoRA response after 30.0s", "type": "api_error"}}
    replica = scripted({MODELS: [listing("base")], LOAD: [(500, json.dumps(late))]})
    with pytest.raises(ServingError, match="restart this replica") as caught:
        replica.load("v1.0", "/adapters/v1.0")
    assert not caught.value.retryable


@pytest.mark.parametrize("content", ["", "<html>", "[]", '{"data": [{"name": "base"}]}', '{"data": null}'])
def test_an_address_that_is_not_a_model_server_is_reported(scripted: Callable[..., Replica], content: str) -> None:
    with pytest.raises(ServingError, match="is this address MAX Serve's or vLLM's"):
        scripted({MODELS: [(200, content)]}).models()


def test_credentials_in_an_address_are_not_shown() -> None:
    replica = Replica("http://user:secret@127.0.0.1:9/", Serving())
    assert str(replica) == "http://127.0.0.1:9"
    with pytest.raises(ServingError) as caught:
        replica.models()
    assert "secret" not in str(caught.value)
