"""The stores that all tests of a process share, their clients and new buckets. A plugin of conftest."""

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from demo import object_store
from demo.object_store import ObjectStore
from learning_engine.config import sections
from learning_engine.registry.store import Store, client_config
from tests.programs import missing


def client_of(server: ObjectStore, endpoint: str = "", *, secret_key: str = "", **settings: Any) -> Any:
    """A boto3 client configured as by the S3Hook, for `server` or for an endpoint in front of it."""
    settings = {"connect_timeout_seconds": 2, "read_timeout_seconds": 20, "attempts": 3, **settings}
    return boto3.client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        config=client_config(sections.Store(**settings)),
    )


def new_bucket(server: ObjectStore) -> Store:
    store = Store(client_of(server), f"bucket-{uuid.uuid4().hex[:12]}", "models/a")
    store.client.create_bucket(Bucket=store.bucket)
    return store


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """OpenStack Swift: a real store whose conditional writes are not atomic."""
    directory = tmp_path_factory.mktemp("swift")
    if reason := object_store.why_not_swift(directory):
        missing(f"Swift cannot run ({reason})")
    with object_store.start(directory) as running:
        yield running


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """moto's server: a mock whose conditional writes are atomic."""
    with object_store.start(tmp_path_factory.mktemp("moto"), moto=True) as running:
        yield running


@pytest.fixture
def mock_store(moto: ObjectStore) -> Store:
    """A new bucket on the faster store, for tests that do not depend on the kind of store."""
    return new_bucket(moto)
