"""The safe swap on two real servers with every hazard on: all replicas are proven, or nothing changes."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from learning_engine.errors import ConfigError, ProofError, ServingError
from learning_engine.records.probe import Probe
from learning_engine.serving import rollout
from learning_engine.serving.client import NoAnswer, Replica
from tests.serving.conftest import SETTINGS, ModelServer
from tests.serving.contract import CHAT, LOAD, MODELS, UNLOAD
from tests.serving.scripted import Answer, Answers, listing

Pair = tuple[ModelServer, ModelServer]


def mine(name: str) -> bool:
    return name.startswith("mine-")


def test_swap_proves_every_replica_and_repeats_without_duplicates(
    pair: Pair, adapters: Path, good: list[Probe]
) -> None:
    replicas = [server.replica for server in pair]
    for _ in range(2):
        proofs = rollout.swap(replicas, "mine-v1.0-swap", str(adapters / "good"), good)
        assert [(proof.replica, proof.probes_passed) for proof in proofs] == [(r.url, len(good)) for r in replicas]
        assert all(replica.models().count("mine-v1.0-swap") == 1 for replica in replicas)


def test_a_swap_without_replicas_proves_nothing(good: list[Probe]) -> None:
    with pytest.raises(ConfigError, match="at least one replica"):
        rollout.swap([], "mine-v1.0-none", "/adapters/mine-v1.0-none", good)


def test_if_one_replica_is_down_the_others_are_unchanged(pair: Pair, adapters: Path, good: list[Probe]) -> None:
    up, down = pair[0].replica, Replica("http://127.0.0.1:9", SETTINGS)
    before = up.models()
    for order in ([up, down], [down, up]):
        with pytest.raises(ServingError, match=r"127\.0\.0\.1:9: expected an answer to GET /v1/models") as caught:
            rollout.swap(order, "mine-v1.1-down", str(adapters / "good"), good)
        assert caught.value.retryable
    assert up.models() == before


def test_if_one_replica_refuses_the_adapter_the_others_are_unchanged(
    pair: Pair, adapters: Path, good: list[Probe]
) -> None:
    first, second = (server.replica for server in pair)
    second.load("mine-v1.2-refused", str(adapters / "other"))
    second_before = second.models()
    with pytest.raises(ProofError):
        rollout.swap([first, second], "mine-v1.2-refused", str(adapters / "good"), good)
    with pytest.raises(ServingError, match="found 400: Invalid LoRA adapter at"):
        rollout.swap([first, second], "mine-v1.3-refused", str(adapters / "rank"), good)
    assert not {"mine-v1.2-refused", "mine-v1.3-refused"} & set(first.models())
    assert second.models() == second_before


def test_an_adapter_is_not_unloaded_while_a_probe_may_still_run(
    pair: Pair, adapters: Path, good: list[Probe], scripted: Callable[[Answers], Replica]
) -> None:
    unloads: list[Answer | None] = [(200, "")]
    hanging = scripted({MODELS: [listing("base")] * 2, LOAD: [(200, "")], CHAT: [None], UNLOAD: unloads})
    with pytest.raises(NoAnswer, match="ReadTimeout"):
        rollout.swap([pair[0].replica, hanging], "mine-v1.5-hang", str(adapters / "good"), good)
    assert unloads == [(200, "")]
    assert "mine-v1.5-hang" not in pair[0].replica.models()


def test_a_server_that_lists_nothing_has_nothing_to_retire(scripted: Callable[[Answers], Replica]) -> None:
    assert rollout.retire([scripted({MODELS: [listing()]})], set(), mine, drain_seconds=0) == []


def test_wrong_weights_are_named_without_the_texts(pair: Pair, adapters: Path, good: list[Probe]) -> None:
    wrong = [good[0], replace(good[1], text="a user's private words")]
    with pytest.raises(ProofError, match="probe 1 of 2") as caught:
        rollout.swap([pair[0].replica], "mine-v1.4-wrong", str(adapters / "good"), wrong)
    assert not caught.value.retryable
    assert pair[0].url in str(caught.value)
    assert not any(words in str(caught.value) for words in (good[1].text, "private", "colour"))
    assert "mine-v1.4-wrong" not in pair[0].replica.models()


def test_the_base_model_s_answers_do_not_prove_an_adapter(pair: Pair, good: list[Probe], bare: list[Probe]) -> None:
    assert rollout.prove(pair[0].replica, "base", bare) == len(bare)
    with pytest.raises(ProofError):
        rollout.prove(pair[0].replica, "base", good)
    assert rollout.prove(pair[0].replica, "base", []) == 0


def test_requests_to_several_models_do_not_affect_each_other(
    pair: Pair, adapters: Path, good: list[Probe], other: list[Probe], bare: list[Probe]
) -> None:
    replica = pair[0].replica
    rollout.swap([replica], "mine-a", str(adapters / "good"), good)
    rollout.swap([replica], "mine-b", str(adapters / "other"), other)
    with ThreadPoolExecutor(6) as pool:
        wanted = [("mine-a", good), ("mine-b", other), ("base", bare)] * 4
        assert all(pool.map(lambda pair: rollout.prove(replica, *pair), wanted))


def test_clients_get_correct_answers_during_a_swap(
    pair: Pair, adapters: Path, good: list[Probe], other: list[Probe]
) -> None:
    replicas = [server.replica for server in pair]
    rollout.swap(replicas, "mine-v2.0", str(adapters / "good"), good)
    swapped = threading.Event()

    def ask(replica: Replica) -> int:
        answered = 0
        while not swapped.is_set():
            answered += rollout.prove(replica, "mine-v2.0", good)
        return answered

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask, replica) for replica in replicas]
        try:
            rollout.swap(replicas, "mine-v2.1", str(adapters / "other"), other)
        finally:
            swapped.set()
        assert sum(client.result() for client in clients) > 0


def test_retire_unloads_owned_adapters_that_are_not_kept(pair: Pair, adapters: Path, good: list[Probe]) -> None:
    replicas = [server.replica for server in pair]
    names = ("mine-v3.0", "mine-v3.1", "mine-v3.2", "theirs-v3.0")
    for name in names:
        rollout.swap(replicas, name, str(adapters / "good"), good)
    down = Replica("http://127.0.0.1:9", SETTINGS)
    began = time.monotonic()
    retired = rollout.retire(
        [down, *replicas],
        {"mine-v3.1", "mine-v3.2"},
        lambda name: name.startswith("mine-v3") or name == "base",
        drain_seconds=0.5,
    )
    assert time.monotonic() - began > 0.5
    assert retired == [(replica.url, "mine-v3.0") for replica in replicas]
    for replica in replicas:
        assert replica.models()[0] == "base"
        assert set(names) & set(replica.models()) == {"mine-v3.1", "mine-v3.2", "theirs-v3.0"}
        assert rollout.prove(replica, "mine-v3.1", good) == len(good)


def test_retire_logs_what_it_could_not_unload(pair: Pair, adapters: Path, caplog: pytest.LogCaptureFixture) -> None:
    replica = pair[0].replica
    for _ in range(2):
        replica._call("POST", "/v1/load_lora_adapter", {"lora_name": "mine-v4", "lora_path": str(adapters / "good")})
    with caplog.at_level("INFO", logger="learning_engine"):
        assert rollout.retire([replica], set(), lambda name: name == "mine-v4", drain_seconds=0) == []
    assert "serving.phantom" in caplog.text
