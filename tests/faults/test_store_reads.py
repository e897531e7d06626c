"""Reads through the proxy: an interrupted read raises StoreError, and metadata names are found in any case."""

import pytest

from demo.object_store import ObjectStore
from learning_engine.errors import IntegrityError, StoreError
from learning_engine.registry.store import Store
from tests.faults import proxy as faults
from tests.faults.proxy import Proxy
from tests.object_stores import client_of, new_bucket
from tests.registry.test_store import corrupt


@pytest.fixture
def store(moto: ObjectStore, proxy: Proxy) -> Store:
    """A new bucket, accessed through the proxy."""
    client = client_of(moto, proxy.endpoint, attempts=1, read_timeout_seconds=1)
    return Store(client, new_bucket(moto).bucket, "models/a")


def test_a_response_cut_off_while_it_is_streamed_raises_a_store_error(store: Store, proxy: Proxy) -> None:
    store.put_bytes("big", b"0123456789" * 1000)
    with proxy.under(faults.cut_answer(2000), method="GET"):
        chunks = store.chunks("big", 500)
        assert next(chunks) == (b"0123456789" * 50)
        with pytest.raises(StoreError, match=rf"Cannot read s3://{store.bucket}/models/a/big: ") as caught:
            list(chunks)
    assert caught.value.retryable
    assert b"".join(store.chunks("big", 500)) == b"0123456789" * 1000


def test_a_missing_object_is_reported_before_the_first_byte(store: Store) -> None:
    with pytest.raises(StoreError, match="there is no such object"):
        store.chunks("nothing", 500)


@pytest.mark.parametrize("case", [str.title, str.upper])
def test_digests_are_found_if_a_proxy_changes_the_case_of_metadata_names(
    store: Store, proxy: Proxy, case: faults.Case, tmp_path
) -> None:
    digest = store.put_json("record.json", {"kept": 1})
    corrupt(store, "record.json", b'{"kept": 999}')
    with proxy.under(faults.renames_metadata(case)):
        assert list(store.client.head_object(**store._at("record.json"))["Metadata"]) == [case("sha256")]
        assert store.head("record.json").sha256 == digest
        for read in (lambda: store.get_json("record.json"), lambda: store.get_file("record.json", tmp_path / "x")):
            with pytest.raises(IntegrityError, match=f"expected sha256 {digest}"):
                read()
