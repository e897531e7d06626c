"""Both stores, a fresh bucket for each test, and registries on them."""

import pytest

from demo.object_store import ObjectStore
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.object_stores import new_bucket
from tests.registry.bucket import populate


@pytest.fixture(params=["swift", "moto"])
def server(request: pytest.FixtureRequest) -> ObjectStore:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(server: ObjectStore) -> Store:
    return new_bucket(server)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, settle_seconds=0)


@pytest.fixture
def mock_registry(mock_store: Store) -> Registry:
    return Registry(mock_store, settle_seconds=0)


@pytest.fixture
def bucket(mock_store: Store) -> Store:
    return populate(mock_store)


@pytest.fixture
def real_bucket(store: Store) -> Store:
    return populate(store)
