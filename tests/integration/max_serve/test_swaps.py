"""Deployments to the complete MAX Serve: swaps and rollbacks, under load and with several adapters at once."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from learning_engine.errors import ProofError
from learning_engine.steps import deploy as deploy_step
from tests.integration.max_serve.conftest import MaxServer
from tests.serving import contract, swaps
from tests.serving.traffic import Traffic, in_turn
from tests.steps.conftest import Loop, week

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


def test_a_trained_version_is_deployed_proven_and_rolled_back(loop: Loop, server: MaxServer) -> None:
    loop.teach(0, 1)
    first, second = (loop.learn(week(number)) for number in range(2))
    assert first.report.probes is not None
    for number, version in enumerate((first, second)):
        served = loop.serve(version, run_id=str(number))
        assert (served.proven, served.replicas[0].probes_passed) == (True, version.report.probes.count)
        assert loop.resources.ledger.current() == served
    # A retry of both steps must not load again: MAX would list the name twice and could never unload it.
    assert loop.serve(second, run_id="1") == served
    names = [swaps.server_name(loop, version) for version in (first, second)]
    assert server.replica.models() == [contract.BASE, *names]
    target = deploy_step.choose(loop.resources, action="rollback", version=None)
    back = loop.serve(target, run_id="back", action="rollback", by_hand=True)
    assert (back.version, back.adapter_name, back.proven) == (first.version, names[0], True)
    assert server.replica.models() == [contract.BASE, *names]
    assert loop.resources.registry.revoked(second.version) is not None


def test_other_weights_under_a_version_s_name_do_not_move_the_pointer(
    loop: Loop, server: MaxServer, world: swaps.World
) -> None:
    first, second = swaps.publish_both(loop, world)
    served = loop.serve(first)
    server.replica.load(swaps.server_name(loop, second), str(world.adapters["one"]))
    with pytest.raises(ProofError, match="other weights"):
        loop.serve(second, run_id="second")
    assert loop.resources.ledger.current() == served


def test_twenty_swaps_and_a_rollback_under_load_lose_no_request_and_give_no_wrong_answer(
    loop: Loop, server: MaxServer, world: swaps.World, record_property: Any
) -> None:
    figures = swaps.under_load(loop, world, swaps=20)
    record_property("swaps_under_load", json.dumps(figures))
    record_property("start_seconds", server.seconds)
    print(json.dumps(figures), server.seconds)
    assert len(figures["swap_seconds"]) == 20


def test_each_request_of_a_mixed_batch_gets_its_own_model_while_another_is_swapped_in(
    loop: Loop, server: MaxServer, world: swaps.World, tmp_path: Path
) -> None:
    for name, path in world.adapters.items():
        server.replica.load(f"{tmp_path.name}-{name}", str(path))
    asked = {contract.BASE: world.answers[""]}
    asked |= {f"{tmp_path.name}-{name}": world.answers[name] for name in world.adapters}
    rows = zip(*asked.values(), strict=True)
    questions = [(name, probe) for row in rows for name, probe in zip(asked, row, strict=True)]
    version = swaps.publish(loop, 0, world.base, world.adapters["two"], world.answers["two"][:3])
    with Traffic(server.url, in_turn(*questions), clients=6) as traffic:
        before = time.monotonic()
        loop.serve(version)
        while len(traffic.replies) < 60:
            assert time.monotonic() < before + 60, f"{len(traffic.replies)} answers in a minute"
            time.sleep(0.05)
    assert not traffic.faults(), traffic.faults()[:3]
    assert {reply.model for reply in traffic.replies} == set(asked)
