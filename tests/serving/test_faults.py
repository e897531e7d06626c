"""A model server fails at each call of a deployment: the live version stays live, and repeating the deployment works.

The calls go through a proxy to the local server, which has every hazard on.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.errors import ConfigError, IntegrityError, LearningEngineError, ProofError
from learning_engine.serving import rollout
from learning_engine.serving.client import NoAnswer
from learning_engine.steps.resources import Resources, ServingPlace
from tests.faults.proxy import Exchange, Fault, front, loses_answer, passes, silent
from tests.object_stores import new_bucket
from tests.serving.conftest import ModelServer, is_up, model_servers
from tests.serving.contract import CHAT, LOAD, MODELS, UNLOAD
from tests.serving.served import HURRIED, LIMITS, Chain, Served

# The calls of a deployment with two probes that unloads an older version at the end.
DEPLOY = [("GET", MODELS), ("GET", MODELS), ("POST", LOAD), ("POST", CHAT), ("POST", CHAT)]
VERIFY = [("GET", MODELS), ("POST", CHAT), ("POST", CHAT), ("GET", MODELS), ("POST", UNLOAD), ("GET", MODELS)]
CALLS = DEPLOY + VERIFY
# From this call on, the pointer has moved: what fails is left for the next deployment.
POINTER_MOVED = len(DEPLOY) + 3
# `make test` tries the faults at the load of the adapter, `make test-stack` at every call.
AT = [
    pytest.param(index, marks=() if call == ("POST", LOAD) else pytest.mark.stack) for index, call in enumerate(CALLS)
]
NAMES = [f"{index} {method} {path.rpartition('/')[2]}" for index, (method, path) in enumerate(CALLS)]


@pytest.fixture(scope="module")
def chain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(base, tmp_path_factory.mktemp("chain"), versions=3, probes=2)


@pytest.fixture(scope="module")
def sturdy(base: Path) -> Iterator[ModelServer]:
    """A server that no test kills; every test unloads its adapters."""
    with model_servers(base, []) as (server,):
        yield server


Serve = Callable[[ModelServer], Served]


@pytest.fixture
def serve(chain: Chain, moto: ObjectStore, tmp_path: Path) -> Iterator[Serve]:
    """Sets up a server with a bucket, an adapter directory, a proxy and two deployed versions."""
    store = new_bucket(moto)
    settings = config.load().model_copy(update={"serving": LIMITS})
    started: list[Served] = []

    def start(server: ModelServer) -> Served:
        proxy = front(server.url)
        proxy._start()
        place = ServingPlace((proxy.endpoint,), tmp_path / "adapters", str(tmp_path / "adapters"))
        resources = Resources(settings, lambda: store, lambda: None, lambda: place)
        served = Served(resources, chain.publish(store), chain, proxy, server)
        started.append(served)
        for number in (0, 1):
            served.deploy(number)
        return served

    try:
        yield start
    finally:
        for served in started:
            served.proxy._stop()
            if is_up(served.replica.url):
                for name in served.replica.models()[1:]:
                    served.replica.unload(name)


def again(served: Served) -> None:
    """Repeat the deployment: it works, with the adapter listed once and one decision."""
    decisions, _ = served.live()
    known = any(entry.version == served.versions[2].version for entry in served.resources.ledger.entries())
    deployed = served.deploy(2)
    assert served.proven(2)
    assert served.live() == (decisions + (not known), deployed)
    assert deployed.previous == served.versions[1].version
    assert served.name(0) not in served.replica.models()


def cut(exchange: Exchange) -> None:
    """The request never reaches the server."""
    exchange.drop()


FAULTS = {"the connection is cut": cut, "the response is lost": loses_answer, "the response is too late": silent}


def fails(served: Served, fault: Fault, at: int) -> None:
    """Deploy the third version with a fault; the pointer has moved if every essential call succeeded."""
    before = served.live()
    done = at >= POINTER_MOVED or (fault is loses_answer and CALLS[at] == ("POST", LOAD))
    if fault is silent:
        served.limit(HURRIED)
    with served.under(fault, at=at):
        if done:
            assert served.deploy(2) == served.live()[1]
        else:
            with pytest.raises(LearningEngineError) as raised:
                served.deploy(2)
            assert isinstance(raised.value, NoAnswer)
            assert raised.value.retryable
    assert served.calls[: at + 1] == CALLS[: at + 1]
    if not done:
        assert served.live() == before


def test_the_calls_of_a_deployment(serve: Serve, sturdy: ModelServer) -> None:
    served = serve(sturdy)
    with served.under(passes, at=0):
        served.deploy(2)
    assert served.calls == CALLS
    assert served.proven(1)
    assert served.proven(2)
    assert served.name(0) not in served.replica.models()


@pytest.mark.parametrize("at", AT, ids=NAMES)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_interrupted_call_keeps_the_live_version_and_the_deployment_can_be_repeated(
    serve: Serve, sturdy: ModelServer, fault: Fault, at: int
) -> None:
    served = serve(sturdy)
    fails(served, fault, at)
    served.limit(LIMITS)
    assert served.proven(1), "the live version still answers, and stays loaded for a rollback"
    again(served)


@pytest.mark.parametrize(
    ("at", "done"),
    [
        *(pytest.param(at, False, id=f"{name}, not done", marks=pytest.mark.stack) for at, name in enumerate(NAMES)),
        pytest.param(CALLS.index(("POST", LOAD)), True, id=f"POST {LOAD}, done"),
        pytest.param(CALLS.index(("POST", UNLOAD)), True, id=f"POST {UNLOAD}, done", marks=pytest.mark.stack),
    ],
)
def test_a_server_that_dies_at_a_call_leaves_the_pointer_and_accepts_the_deployment_after_its_restart(
    serve: Serve, base: Path, at: int, done: bool
) -> None:
    with model_servers(base, []) as (mortal,):
        served = serve(mortal)

        def dies(exchange: Exchange) -> None:
            if done:
                exchange.forward()
            mortal.process.kill()
            mortal.process.join(10)
            exchange.drop()

        decisions, live = served.live()
        with served.under(dies, at=at):
            if at < POINTER_MOVED:
                with pytest.raises(NoAnswer):
                    served.deploy(2)
                assert served.live() == (decisions, live)
            else:
                assert served.deploy(2) == served.live()[1]
        assert not is_up(served.replica.url)
        with pytest.raises(NoAnswer):
            served.deploy(2)
        with model_servers(base, []) as (back,):
            served.restarted(back)
            again(served)


def test_a_load_that_arrives_after_its_retry_is_served_correctly_and_never_half_unloaded(
    serve: Serve, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No client can prevent this duplicate listing: the first call was delayed on its way."""
    held: list[dict[str, Any]] = []
    with model_servers(base, []) as (server,):
        served = serve(server)

        def hold(exchange: Exchange) -> None:
            held.append(json.loads(exchange.body()))
            exchange.drop()

        with served.under(hold, at=CALLS.index(("POST", LOAD))), pytest.raises(NoAnswer):
            served.deploy(2)
        deployed = served.deploy(2)
        (body,) = held
        requests.post(server.url + LOAD, json=body, timeout=20).raise_for_status()
        assert served.replica.models().count(served.name(2)) == 2
        assert rollout.prove(served.replica, served.name(2), served.chain.probes[2]) == 2
        assert served.deploy(2) == deployed, "repeating the deployment adds no third"
        assert served.replica.models().count(served.name(2)) == 2
        assert served.live()[1] == deployed
        with caplog.at_level("INFO", logger="learning_engine"):
            assert rollout.retire([served.replica], set(), served.name(2).__eq__, drain_seconds=0) == []
        assert "serving.phantom" in caplog.text
        assert rollout.prove(served.replica, served.name(2), served.chain.probes[2]) == 2, (
            "it does not become a phantom"
        )


@pytest.mark.parametrize("name", ["v1=0", "", "..", "v1.0/..", "v1.0\n", "v1.٣", "\u202ev1.0"])
def test_a_name_that_the_server_would_misinterpret_is_never_sent(serve: Serve, sturdy: ModelServer, name: str) -> None:
    served = serve(sturdy)
    before = served.live()
    served.versions[2] = replace(served.versions[2], version=name)
    with served.under(passes, at=0), pytest.raises(LearningEngineError) as raised:
        served.deploy(2, by_hand=True)
    assert not raised.value.retryable
    assert ("POST", LOAD) not in served.calls
    assert served.live() == before
    assert len(served.replica.models()) == 3


@pytest.mark.parametrize("prefix", ["a=b", "a/b", "a b", "prä", "x" * 65, ".", "..", "-", "_"])
def test_a_prefix_that_the_server_would_misinterpret_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_ENGINE__SERVING__ADAPTER_PREFIX", prefix)
    with pytest.raises(ConfigError, match=r"serving\.adapter_prefix"):
        config.load()


@pytest.mark.parametrize("prefix", [".", "..", "-", "_"])
def test_a_prefix_that_begins_with_a_sign_reaches_no_server(serve: Serve, sturdy: ModelServer, prefix: str) -> None:
    served = serve(sturdy)
    served.limit(LIMITS.model_copy(update={"adapter_prefix": prefix}))
    with served.under(passes, at=0), pytest.raises(IntegrityError, match="Expected a server name"):
        served.deploy(2)
    assert served.calls == []


def test_the_base_models_own_name_is_never_loaded(serve: Serve, sturdy: ModelServer) -> None:
    served = serve(sturdy)
    listed = served.replica.models()
    with pytest.raises(ProofError):
        rollout.swap([served.replica], listed[0], "/anywhere", served.chain.probes[2])
    assert served.replica.models() == listed
