"""The local model server keeps MAX Serve's contract; tests/integration/max_serve holds the real routes to the table."""

from pathlib import Path

import pytest

from tests.serving import contract
from tests.serving.conftest import ModelServer, model_servers


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_contract(case: contract.Case, pair: tuple[ModelServer, ModelServer], adapters: Path) -> None:
    contract.run(case, pair[0].url, adapters)


def test_contract_without_lora(base: Path, adapters: Path) -> None:
    with model_servers(base, ["--max-loras", "0"]) as (server,):
        for case in contract.CASES_WITHOUT_LORA:
            contract.run(case, server.url, adapters)
