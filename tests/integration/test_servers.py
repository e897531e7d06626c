"""Model servers that answer, but wrongly: the run fails with the reason, and what is live stays live."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.serving.client import Replica
from tests import tiny
from tests.integration.conftest import Live, rows_of
from tests.integration.test_manual_runs import DEPLOY, learned


@pytest.fixture(scope="module", autouse=True)
def mended(live: Live) -> Iterator[None]:
    """Whatever fails here, the tests that follow find the stack's own model server."""
    yield
    live.restart_model_server()


@pytest.fixture(scope="module")
def target(live: Live) -> AdapterVersion:
    """A version that is not live."""
    live.rest.unpause(DEPLOY)
    registry = live.resources.registry
    for number in range(len(registry.versions()), 2):
        live.add_feedback(rows_of(number))
        run = learned(live, number)
        assert live.state(run) == "success", live.explain(run)
    before = live.resources.ledger.current().version
    return next(version for version in registry.versions() if version.version != before)


def deploy(live: Live, target: AdapterVersion) -> str:
    """The id of an ended run that deploys by hand."""
    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": target.version})
    live.ended(run, DEPLOY)
    return run


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(("--max-lora-rank", "8"), 400, id="it takes only narrower adapters"),
        pytest.param(("--max-loras", "0"), 501, id="it was started without LoRA"),
    ],
)
def test_a_server_that_refuses_the_adapter(live: Live, target: AdapterVersion, arguments: tuple[str, ...], status: int):
    before = live.resources.ledger.current()
    live.restart_model_server(*arguments)
    run = deploy(live, target)
    tasks = live.tasks(run, DEPLOY)
    assert (tasks["deploy"]["state"], tasks["deploy"]["try_number"]) == ("failed", 2)
    assert tasks["verify"]["state"] == "upstream_failed"
    assert f"expected 200 from POST /v1/load_lora_adapter, found {status}: " in live.log(run, "deploy", DEPLOY)
    assert live.resources.ledger.current() == before


def test_a_server_with_other_weights_under_the_name(live: Live, target: AdapterVersion, tmp_path: Path):
    before = live.resources.ledger.current()
    live.restart_model_server()
    replica = Replica(live.resources.serving.replicas[0], live.resources.settings.serving)
    name = manifest.server_name(target.version, target.sha256)
    stranger = tiny.make_adapter(Path(target.base_model), tmp_path / "stranger", seed=3)
    replica.load(name, str(stranger))
    replica.complete(name, [{"role": "user", "content": "hello"}], max_tokens=1)
    replica.unload(name)  # its weights stay packed under the name

    run = deploy(live, target)
    tasks = live.tasks(run, DEPLOY)
    assert (tasks["deploy"]["state"], tasks["deploy"]["try_number"]) == ("failed", 1)
    assert tasks["verify"]["state"] == "upstream_failed"
    log = live.log(run, "deploy", DEPLOY)
    assert "ProofError" in log
    assert "it serves other weights under this name. Restart this replica, then deploy again." in log
    assert live.resources.ledger.current() == before
    assert name not in replica.models()


def test_a_restarted_server_takes_the_same_deployment(live: Live, target: AdapterVersion):
    live.restart_model_server()
    run = deploy(live, target)
    assert live.state(run, DEPLOY) == "success", live.explain(run, DEPLOY)
    now = live.resources.ledger.current()
    assert (now.version, now.decided_by, now.run.run_id) == (target.version, "admin, by hand", run)
    assert now.proven
