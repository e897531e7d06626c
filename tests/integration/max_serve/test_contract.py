"""MAX Serve's real LoRA routes satisfy the same contract as the local server, so that the two cannot diverge."""

from pathlib import Path

import pytest

from learning_engine.config.sections import Serving
from learning_engine.errors import ServingError
from learning_engine.serving.client import Replica
from tests.serving import contract

pytestmark = pytest.mark.real


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_the_real_routes_satisfy_the_contract(case: contract.Case, real_routes: str, adapters: Path) -> None:
    contract.run(case, real_routes, adapters)


@pytest.mark.parametrize("case", contract.CASES_WITHOUT_LORA, ids=lambda case: case.name)
def test_the_real_routes_without_lora_satisfy_the_contract(
    case: contract.Case, real_routes: str, adapters: Path
) -> None:
    contract.run(case, real_routes + "/without-lora", adapters)


def test_the_client_works_with_the_real_routes(real_routes: str, adapters: Path) -> None:
    replica = Replica(real_routes, Serving())
    for _ in range(2):
        replica.load("client-v1.0", str(adapters / "good"))
        assert replica.models().count("client-v1.0") == 1
    for _ in range(2):
        replica.unload("client-v1.0")
        assert "client-v1.0" not in replica.models()
    with pytest.raises(ServingError, match="found 400: Invalid LoRA adapter at"):
        replica.load("client-v1.1", str(adapters / "mlp"))
    with pytest.raises(ServingError, match="found 400"):
        replica.complete("client-v1.1", contract.HELLO, max_tokens=1)
    with pytest.raises(ServingError, match="found 501"):
        Replica(real_routes + "/without-lora", Serving()).load("client-v1.0", str(adapters / "good"))
