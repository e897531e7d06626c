"""The whole server keeps the same table as its routes alone and as the local server.

Runs last: what is loaded twice stays listed until the server is started anew.
"""

from pathlib import Path

import pytest

from tests.integration.max_serve.conftest import WholeServer
from tests.serving import contract

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_contract(case: contract.Case, server: WholeServer, adapters: Path) -> None:
    contract.run(case, server.url, adapters)
    assert server.replica.models()
