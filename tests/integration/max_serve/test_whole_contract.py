"""The complete server satisfies the same contract as its routes alone and as the local server.

Runs last: an adapter that is loaded twice stays listed until the server restarts.
"""

from pathlib import Path

import pytest

from tests.integration.max_serve.conftest import MaxServer
from tests.serving import contract

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("case", contract.CASES, ids=lambda case: case.name)
def test_the_complete_server_satisfies_the_contract(case: contract.Case, server: MaxServer, adapters: Path) -> None:
    contract.run(case, server.url, adapters)
    assert server.replica.models()
