"""Clients and new buckets of a running store."""

import uuid
from typing import Any

import boto3

from demo.object_store import ObjectStore
from learning_engine.config import sections
from learning_engine.registry.store import Store, client_config


def client_of(server: ObjectStore, endpoint: str = "", **settings: Any) -> Any:
    """A boto3 client configured as by the S3Hook, for `server` or for an endpoint in front of it."""
    settings = {"connect_timeout_seconds": 2, "read_timeout_seconds": 20, "attempts": 3, **settings}
    return boto3.client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=client_config(sections.Store(**settings)),
    )


def new_bucket(server: ObjectStore) -> Store:
    client = client_of(server)
    store = Store(client, f"bucket-{uuid.uuid4().hex[:12]}", "models/a")
    client.create_bucket(Bucket=store.bucket)
    return store
