"""MAX Serve's real LoRA routes keep the same table as the local server, so that the two cannot drift apart."""

from pathlib import Path

import pytest

from tests.serving import contract

pytestmark = pytest.mark.real


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_contract(case: contract.Case, real_routes: str, adapters: Path) -> None:
    contract.run(case, real_routes, adapters)


@pytest.mark.parametrize("case", contract.CASES_WITHOUT_LORA, ids=lambda case: case.name)
def test_contract_without_lora(case: contract.Case, real_routes: str, adapters: Path) -> None:
    contract.run(case, real_routes + "/without-lora", adapters)
