"""MAX Serve dies and restarts without adapters: the ledger records nothing false, and `verify` repairs the server."""

import pytest

from learning_engine.errors import ServingError
from learning_engine.steps import deploy as deploy_step
from tests.integration.max_serve.conftest import MaxServer
from tests.serving import contract, swaps
from tests.serving.traffic import stream
from tests.steps.conftest import RUN, Loop

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


def test_a_server_that_was_killed_between_deploy_and_verify_gets_its_adapters_back(
    loop: Loop, server: MaxServer, world: swaps.World
) -> None:
    first, second = swaps.publish_both(loop, world)
    served = loop.serve(first)
    deployment = deploy_step.deploy(loop.resources, second, run=RUN, decided_by="the gate")
    server.kill()
    with pytest.raises(ServingError, match="found none"):
        deploy_step.verify(loop.resources, deployment)
    server.start()
    assert server.replica.models() == [contract.BASE]
    assert loop.resources.ledger.current() == served
    again = deploy_step.verify(loop.resources, deployment)
    assert (again.version, again.previous, again.proven) == (second.version, first.version, True)
    assert again.adapter_name in server.replica.models()
    for probe in world.answers["two"]:
        assert stream(server.url, str(again.adapter_name), probe).strip() == probe.text.strip()
