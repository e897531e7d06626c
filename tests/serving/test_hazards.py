"""MAX Serve's hazards: each occurs without our safeguard, not with it, and not on a server without hazards."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from learning_engine.errors import PreflightError, ServingError
from learning_engine.records.contracts import LoraShape
from learning_engine.records.probe import Probe
from learning_engine.serving import adapter_check, rollout
from learning_engine.serving.client import Replica
from tests.serving import contract, truth
from tests.serving.conftest import ModelServer, model_servers

TOKENS = 300


@pytest.fixture(scope="module")
def hazardous(base: Path) -> Iterator[Replica]:
    with model_servers(base, []) as (server,):
        yield server.replica


@pytest.fixture(scope="module")
def well_behaved(base: Path) -> Iterator[Replica]:
    with model_servers(base, ["--hazards", "none"]) as (server,):
        yield server.replica


@pytest.fixture
def own_server(base: Path) -> Iterator[ModelServer]:
    """A server for one test, which crashes it."""
    with model_servers(base, []) as (server,):
        yield server


def post_load(replica: Replica, name: str, path: Path) -> None:
    """Load without our client's safeguards."""
    body = {"lora_name": name, "lora_path": str(path)}
    requests.post(replica.url + contract.LOAD, json=body, timeout=20).raise_for_status()


def answers(replica: Replica, name: str, probes: list[Probe]) -> list[str]:
    return [replica.complete(name, probe.messages, max_tokens=len(probe.tokens)).strip() for probe in probes]


def texts(probes: list[Probe]) -> list[str]:
    return [probe.text.strip() for probe in probes]


def pieces(replica: Replica, name: str) -> Iterator[str]:
    """The answer to a probe's prompt, piece by piece."""
    body = {"model": name, "messages": truth.PROMPTS[0], "max_tokens": TOKENS, "temperature": 0, "stream": True}
    with requests.post(replica.url + contract.CHAT, json=body, stream=True, timeout=60) as response:
        for line in response.iter_lines(chunk_size=1):
            if line and line != b"data: [DONE]":
                yield json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]["content"]


def reload_as_another(replica: Replica, adapters: Path, good: list[Probe]) -> None:
    post_load(replica, "v1", adapters / "good")
    assert answers(replica, "v1", good) == texts(good)
    replica.unload("v1")
    post_load(replica, "v1", adapters / "other")


def test_a_reused_name_serves_old_weights(
    hazardous: Replica, well_behaved: Replica, adapters: Path, good: list[Probe], other: list[Probe]
) -> None:
    reload_as_another(hazardous, adapters, good)
    assert answers(hazardous, "v1", good) == texts(good)
    reload_as_another(well_behaved, adapters, good)
    assert answers(well_behaved, "v1", other) == texts(other)
    rollout.swap([hazardous], "v2-of-other-weights", str(adapters / "other"), other)


def test_a_phantom_answers_as_base(
    hazardous: Replica, well_behaved: Replica, adapters: Path, good: list[Probe], bare: list[Probe]
) -> None:
    for replica in (hazardous, well_behaved):
        post_load(replica, "twice", adapters / "good")
        post_load(replica, "twice", adapters / "good")
        replica.unload("twice")
    assert answers(hazardous, "twice", bare) == texts(bare)
    with pytest.raises(ServingError, match="found 400"):
        well_behaved.complete("twice", truth.PROMPTS[0], max_tokens=1)
    for _ in range(2):
        rollout.swap([hazardous], "retried", str(adapters / "good"), good)
    assert hazardous.models().count("retried") == 1
    hazardous.unload("retried")
    assert "retried" not in hazardous.models()


def test_a_request_whose_adapter_is_unloaded_continues_as_base(
    hazardous: Replica, well_behaved: Replica, base: Path, adapters: Path, other: list[Probe]
) -> None:
    full = truth.probes(base, adapters / "good", tokens=TOKENS)[0].text
    for replica, kept in ((hazardous, False), (well_behaved, True)):
        post_load(replica, "running", adapters / "good")
        stream = pieces(replica, "running")
        begun = next(stream)
        replica.unload("running")
        assert (begun + "".join(stream) == full) == kept
    # The safeguard: the adapter in use before a swap stays loaded until the next one.
    rollout.swap([hazardous], "mine-1", str(adapters / "good"), [])
    stream = pieces(hazardous, "mine-1")
    begun = next(stream)
    rollout.swap([hazardous], "mine-2", str(adapters / "other"), other)
    keep = {"mine-1", "mine-2"}
    assert rollout.retire([hazardous], keep, lambda name: name.startswith("mine-"), drain_seconds=0) == []
    assert begun + "".join(stream) == full


def test_a_phantom_next_to_an_adapter_crashes_the_server(own_server: ModelServer, adapters: Path) -> None:
    for _ in range(2):
        post_load(own_server.replica, "twice", adapters / "good")
    post_load(own_server.replica, "other", adapters / "other")
    own_server.replica.unload("twice")
    stream = pieces(own_server.replica, "other")
    next(stream)
    with pytest.raises(ServingError):
        own_server.replica.complete("twice", truth.PROMPTS[0], max_tokens=1)
    own_server.process.join(10)
    assert own_server.process.exitcode == 1


def check(adapter: Path, base: Path) -> None:
    shape = LoraShape(16, 32, ("k_proj", "o_proj", "q_proj", "v_proj"))
    adapter_check.check(
        adapter,
        base_model=str(base),
        base_revision="",
        lora=shape,
        max_lora_rank=16,
        base_config=base / "config.json",
    )


def test_truncated_weights_crash_the_server_at_load(
    own_server: ModelServer, well_behaved: Replica, base: Path, adapters: Path
) -> None:
    with pytest.raises(ServingError):
        own_server.replica.load("truncated", str(adapters / "truncated"))
    own_server.process.join(10)
    assert own_server.process.exitcode == 139
    with pytest.raises(ServingError, match="found 400: Invalid LoRA adapter"):
        well_behaved.load("truncated", str(adapters / "truncated"))
    with pytest.raises(PreflightError):
        check(adapters / "truncated", base)


@pytest.mark.parametrize("adapter", ["nan", "wide"])
def test_invalid_weights_crash_the_server_at_the_first_request(
    own_server: ModelServer, well_behaved: Replica, base: Path, adapters: Path, adapter: str
) -> None:
    own_server.replica.load(adapter, str(adapters / adapter))
    with pytest.raises(ServingError):
        own_server.replica.complete(adapter, truth.PROMPTS[0], max_tokens=1)
    own_server.process.join(10)
    assert own_server.process.exitcode == 1
    with pytest.raises(ServingError, match="found 400: Invalid LoRA adapter"):
        well_behaved.load(adapter, str(adapters / adapter))
    with pytest.raises(PreflightError):
        check(adapters / adapter, base)
