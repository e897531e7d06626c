"""Model servers that refuse an adapter or serve wrong weights: the run fails, and the live version stays live."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from tests import tiny
from tests.integration.conftest import Live, rows_of
from tests.integration.test_manual_runs import DEPLOY, run_week


@pytest.fixture(scope="module", autouse=True)
def restored_server(live: Live) -> Iterator[None]:
    """Restart the stack's own model server after the tests of this file, for those that follow."""
    yield
    live.restart_model_server()


@pytest.fixture(scope="module")
def target(live: Live) -> AdapterVersion:
    """A version that is not live."""
    live.rest.unpause(DEPLOY)
    registry = live.resources.registry
    for number in range(len(registry.versions()), 2):
        live.add_feedback(rows_of(number))
        run = run_week(live, number)
        assert live.state(run) == "success", live.explain(run)
    before = live.resources.ledger.current().version
    return next(version for version in registry.versions() if version.version != before)


def deploy(live: Live, target: AdapterVersion) -> str:
    """The id of an ended run that deploys by hand."""
    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": target.version})
    live.wait_for_end(run, DEPLOY)
    return run


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(("--max-lora-rank", "8"), 400, id="it accepts only lower ranks"),
        pytest.param(("--max-loras", "0"), 501, id="it was started without LoRA"),
    ],
)
def test_a_server_that_refuses_the_adapter_fails_the_run(
    live: Live, target: AdapterVersion, arguments: tuple[str, ...], status: int
):
    before = live.resources.ledger.current()
    live.restart_model_server(*arguments)
    run = deploy(live, target)
    tasks = live.tasks(run, DEPLOY)
    assert (tasks["deploy"]["state"], tasks["deploy"]["try_number"]) == ("failed", 2)
    assert tasks["verify"]["state"] == "upstream_failed"
    assert f"expected 200 from POST /v1/load_lora_adapter, found {status}: " in live.log(run, "deploy", DEPLOY)
    assert live.resources.ledger.current() == before


def test_a_server_with_other_weights_under_the_name_fails_the_proof(live: Live, target: AdapterVersion, tmp_path: Path):
    before = live.resources.ledger.current()
    live.restart_model_server()
    replica = live.replica
    name = manifest.server_name(target.version, target.sha256)
    other = tiny.make_adapter(Path(target.base_model), tmp_path / "other", seed=3)
    replica.load(name, str(other))
    replica.complete(name, [{"role": "user", "content": "hello"}], max_tokens=1)
    replica.unload(name)  # the server keeps its weights under the name

    run = deploy(live, target)
    tasks = live.tasks(run, DEPLOY)
    assert (tasks["deploy"]["state"], tasks["deploy"]["try_number"]) == ("failed", 1)
    assert tasks["verify"]["state"] == "upstream_failed"
    log = live.log(run, "deploy", DEPLOY)
    assert "ProofError" in log
    assert "it serves other weights under this name. Restart this replica, then deploy again." in log
    assert live.resources.ledger.current() == before
    assert name not in replica.models()


def test_the_same_deployment_succeeds_on_a_restarted_server(live: Live, target: AdapterVersion):
    live.restart_model_server()
    run = deploy(live, target)
    assert live.state(run, DEPLOY) == "success", live.explain(run, DEPLOY)
    now = live.resources.ledger.current()
    assert (now.version, now.decided_by, now.run.run_id) == (target.version, "admin, by hand", run)
    assert now.proven
