"""Both stores, a fresh bucket for each test, and registries on them."""

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from demo import object_store
from demo.object_store import ObjectStore
from learning_engine.config import sections
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store, client_config
from tests.registry.bucket import populate


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """OpenStack Swift: a real store whose conditional writes are not atomic."""
    directory = tmp_path_factory.mktemp("swift")
    if reason := object_store.why_not_swift(directory):
        if os.environ.get("CI") == "true":
            pytest.fail(f"Swift is needed: {reason}")
        pytest.skip(f"Swift: {reason}")
    with object_store.start(directory) as running:
        yield running


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """moto's server: a mock whose conditional writes are atomic."""
    with object_store.start(tmp_path_factory.mktemp("moto"), moto=True) as running:
        yield running


@pytest.fixture(params=["swift", "moto"])
def server(request: pytest.FixtureRequest) -> ObjectStore:
    return request.getfixturevalue(request.param)


Connect = Callable[..., Any]


@pytest.fixture
def connect() -> Connect:
    """Makes boto3 clients configured as by the S3Hook."""

    def client(server: ObjectStore, *, secret_key: str | None = None, **settings: Any) -> Any:
        settings = {"connect_timeout_seconds": 2, "read_timeout_seconds": 20, "attempts": 3, **settings}
        return boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=secret_key or server.secret_key,
            config=client_config(sections.Store(**settings)),
        )

    return client


def fresh(client: Any, prefix: str = "models/a") -> Store:
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return Store(client, bucket, prefix)


@pytest.fixture
def store(server: ObjectStore, connect: Connect) -> Store:
    return fresh(connect(server))


@pytest.fixture
def mock_store(moto: ObjectStore, connect: Connect) -> Store:
    """The faster store, for tests that do not depend on the kind of store."""
    return fresh(connect(moto))


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
