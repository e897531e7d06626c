"""Preflight refuses every adapter that MAX Serve would compute wrongly or that would crash it; MAX keeps serving."""

from pathlib import Path

import pytest

from learning_engine.errors import PreflightError
from learning_engine.steps import deploy as deploy_step
from tests.integration.max_serve.conftest import MaxServer
from tests.serving import contract, swaps
from tests.serving.traffic import stream
from tests.steps.conftest import RUN, Loop

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

KILLS_AT_LOAD = ("truncated",)
KILLS_AT_THE_FIRST_REQUEST = ("nan", "wide")
COMPUTED_WRONGLY = ("rslora", "alpha-pattern", "other-base")
REFUSED_BY_MAX = (
    "mlp", "rank", "bias", "dora", "extra-tensor", "bin", "bad-json", "no-config", "no-r", "no-targets", "bfloat16"
)  # fmt: skip


def test_every_adapter_of_the_contract_is_classified(adapters: Path) -> None:
    bad = {*KILLS_AT_LOAD, *KILLS_AT_THE_FIRST_REQUEST, *COMPUTED_WRONGLY, *REFUSED_BY_MAX}
    assert {path.name for path in adapters.iterdir()} - bad == {"good", "other", "float16"}


@pytest.mark.parametrize("adapter", [*KILLS_AT_LOAD, *KILLS_AT_THE_FIRST_REQUEST, *COMPUTED_WRONGLY, *REFUSED_BY_MAX])
def test_a_bad_adapter_is_refused_before_the_server_sees_it(
    loop: Loop, server: MaxServer, world: swaps.World, adapters: Path, adapter: str
) -> None:
    listed = server.replica.models()
    version = swaps.publish(loop, 0, world.base, adapters / adapter, world.answers["one"][:3])
    with pytest.raises(PreflightError):
        deploy_step.deploy(loop.resources, version, run=RUN, decided_by="the gate")
    assert server.replica.models() == listed
    assert stream(server.url, contract.BASE, world.answers[""][0]).strip() == world.answers[""][0].text.strip()
    assert list(loop.resources.serving.adapter_dir.iterdir()) == []
    assert loop.resources.ledger.current() is None
