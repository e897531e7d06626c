"""A store behind a proxy that fails on demand, and three weekly runs on real components."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.object_store import ObjectStore
from tests.faults.proxy import Proxy, front
from tests.faults.weeks import Weeks, Worker, workers
from tests.serving.conftest import ModelServer
from tests.steps.conftest import base, server

__all__ = ["base", "server"]


@pytest.fixture(scope="session")
def proxy(moto: ObjectStore) -> Iterator[Proxy]:
    found = front(moto.endpoint)
    with found.listening():
        yield found


@pytest.fixture(scope="session")
def weeks(moto: ObjectStore, server: ModelServer, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    return Weeks(moto, server, base, tmp_path_factory.mktemp("weeks"))


@pytest.fixture(scope="session")
def worker(weeks: Weeks) -> Iterator[Worker]:
    with workers(weeks) as found:
        yield found
