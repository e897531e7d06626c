"""The local model server under load during swaps; tests/integration/max_serve tests the real one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import swaps
from tests.serving.conftest import ModelServer, model_servers
from tests.steps.conftest import Loop


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swaps.make_base(tmp_path_factory.mktemp("load") / "base")


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ModelServer]:
    with model_servers(base, ["--max-loras", "3"]) as (only,):
        yield only


@pytest.mark.stack
def test_swaps_under_load_lose_no_request_and_give_no_wrong_answer(
    loop: Loop, base: Path, tmp_path: Path, record_property
) -> None:
    figures = swaps.under_load(loop, swaps.make_world(base, tmp_path / "world"), swaps=5)
    record_property("swaps_under_load", json.dumps(figures))
    print(json.dumps(figures))
