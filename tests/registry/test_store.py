"""The store: objects are read back intact or not at all, and every failure is named without a secret."""

import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from demo.object_store import ObjectStore
from learning_engine.archive import sha256_file
from learning_engine.config import sections
from learning_engine.errors import ConfigError, IntegrityError, StoreError
from learning_engine.registry.store import NotFound, Store, StoreRefused, client_config
from tests.object_stores import client_of


def corrupt(store: Store, key: str, data: bytes) -> None:
    """Replace an object's bytes, but keep its recorded digest."""
    sha256 = store.head(key).sha256
    store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=data, Metadata={"sha256": sha256})


class Answer:
    """A canned body for a request that never reaches the store."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, **_: Any) -> list[bytes]:
        return [self.body]


def answers(status: int, code: str) -> Any:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda **_: AWSResponse("http://store", status, {"Content-Type": "application/xml"}, Answer(body))


def test_bytes_and_json_are_read_back_unchanged(store: Store) -> None:
    digest = store.put_bytes("a/b.bin", b"\x00\xff")
    assert store.get_bytes("a/b.bin") == b"\x00\xff"
    assert (store.head("a/b.bin").sha256, store.head("a/b.bin").size) == (digest, 2)
    assert store.digest("a/b.bin") == digest
    store.put_json("c.json", {"grüße": [1, None]})
    assert store.get_json("c.json") == {"grüße": [1, None]}


@pytest.mark.parametrize("size", [0, 1000, 20 << 20])
def test_files_of_one_or_many_parts_are_read_back_unchanged(store: Store, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(b"0123456789abcdef" * (size // 16))
    digest = store.put_file("big", source)
    assert digest == store.head("big").sha256 == sha256_file(source)
    store.get_file("big", target, digest)
    assert target.read_bytes() == source.read_bytes()
    store.copy("big", "copy")
    # A copy does not depend on the original, even one uploaded in parts.
    store.delete(["big"])
    assert store.digest("copy") == digest == store.head("copy").sha256
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_modified_bytes_are_never_returned(store: Store, tmp_path: Path) -> None:
    digest = store.put_bytes("a", b"right")
    corrupt(store, "a", b"wrong")
    for read in (
        lambda: store.get_bytes("a"),
        lambda: store.get_file("a", tmp_path / "a", digest),
        lambda: store.get_file("a", tmp_path / "a"),
    ):
        with pytest.raises(IntegrityError, match=f"s3://{store.bucket}/models/a/a: expected sha256 {digest}, found "):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_given_digest_overrides_the_stored_one(store: Store) -> None:
    store.put_bytes("a", b"new")
    with pytest.raises(IntegrityError):
        store.get_bytes("a", sha256="0" * 64)


def test_an_object_that_is_not_json_is_refused(mock_store: Store) -> None:
    mock_store.put_bytes("a", b"{")
    with pytest.raises(IntegrityError, match="Expected JSON"):
        mock_store.get_json("a")


def test_put_if_absent_does_not_overwrite(store: Store) -> None:
    assert store.put_if_absent("claim", b"first")
    assert not store.put_if_absent("claim", b"second")
    assert store.get_bytes("claim") == b"first"


def test_put_if_absent_works_on_a_store_without_conditions(mock_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def refuse_conditions(request: Any, **_: Any) -> Any:
        return answers(501, "NotImplemented")() if "If-None-Match" in request.headers else None

    mock_store.client.meta.events.register("before-send.s3.PutObject", refuse_conditions)
    with caplog.at_level(logging.INFO, "learning_engine"):
        assert [mock_store.put_if_absent(key, b"1") for key in ("a", "a", "b")] == [True, False, True]
    assert [json.loads(m)["event"] for m in caplog.messages] == ["store.no_conditions"]
    assert mock_store.get_bytes("a") == b"1"


@pytest.mark.parametrize("status", [409, 412])
def test_a_lost_race_is_a_result_and_not_an_error(mock_store: Store, status: int) -> None:
    mock_store.client.meta.events.register("before-send.s3.PutObject", answers(status, "ConditionalRequestConflict"))
    assert not mock_store.put_if_absent("a", b"1")


def test_list_delete_and_exists_stay_within_the_prefix(store: Store) -> None:
    other = Store(store.client, store.bucket, "models/b/")
    other.put_bytes("x/1", b"other model")
    for key in ("x/2", "x/1", "y"):
        store.put_bytes(key, b"123")
    assert [(entry.key, entry.size) for entry in store.list("x/")] == [("x/1", 3), ("x/2", 3)]
    assert [entry.key for entry in store.list()] == ["x/1", "x/2", "y"]
    store.delete(["x/1", "x/1", "nothing"])
    assert not store.exists("x/1")
    assert store.exists("x/2")
    assert other.exists("x/1")


def test_a_list_of_several_pages_is_complete(mock_store: Store) -> None:
    mock_store.client.meta.events.register(
        "before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=2)
    )
    for number in range(5):
        mock_store.put_bytes(f"k{number}", b"")
    assert [entry.key for entry in mock_store.list()] == ["k0", "k1", "k2", "k3", "k4"]


@pytest.mark.parametrize(("prefix", "root"), [("", ""), ("a", "a/"), ("a/b/", "a/b/"), ("/a/", "a/")])
def test_keys_become_uris_and_back(prefix: str, root: str) -> None:
    store = Store(None, "lora-adapters", prefix)
    assert store.uri("x/y") == f"s3://lora-adapters/{root}x/y"
    assert store.key(store.uri("x/y")) == "x/y"
    for uri in ("s3://other/x", "https://lora-adapters/x", store.uri("")):
        with pytest.raises(ConfigError, match=r"store\.bucket"):
            store.key(uri)


def test_a_missing_object_is_reported_and_not_retried(store: Store, tmp_path: Path) -> None:
    for read in (
        lambda: store.get_bytes("nothing"),
        lambda: store.head("nothing"),
        lambda: store.digest("nothing"),
        lambda: store.get_file("nothing", tmp_path / "x", "0" * 64),
        lambda: store.copy("nothing", "x"),
    ):
        with pytest.raises(NotFound, match=rf"Cannot .* s3://{store.bucket}/models/a/nothing") as caught:
            read()
        assert not caught.value.retryable


def test_a_missing_bucket_is_named(store: Store) -> None:
    with pytest.raises(StoreRefused, match="write s3://no-such-bucket/a: the store answered NoSuchBucket"):
        Store(store.client, "no-such-bucket").put_bytes("a", b"")


def test_a_wrong_secret_is_refused_and_not_shown(swift: ObjectStore, tmp_path: Path) -> None:
    store = Store(client_of(swift, secret_key="open-sesame"), "lora-adapters")
    (tmp_path / "a").write_text("x")
    for write in (
        lambda: store.put_bytes("a", b""),
        lambda: store.put_file("a", tmp_path / "a"),
        lambda: [*store.list()],
    ):
        with pytest.raises(StoreRefused, match=r"\(HTTP 403\).*credentials") as caught:
            write()
        assert "open-sesame" not in str(caught.value)
        assert not caught.value.retryable


def test_a_store_that_is_down_is_retryable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    down = ObjectStore(endpoint, "key", "open-sesame", "us-east-1", "none", endpoint)
    store = Store(client_of(down, attempts=1), "lora-adapters")
    (tmp_path / "a").write_text("x")
    for call in (
        lambda: store.get_bytes("a"),
        lambda: store.put_bytes("a", b""),
        lambda: store.put_file("a", tmp_path / "a"),
        lambda: store.get_file("a", tmp_path / "b"),
        lambda: store.put_if_absent("a", b""),
        lambda: store.delete(["a"]),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreError, match=r"Cannot \w+ s3://lora-adapters/.*EndpointConnectionError") as caught:
            call()
        assert caught.value.retryable


def test_error_responses_are_retried(mock_store: Store) -> None:
    left = [answers(503, "SlowDown")(), answers(500, "InternalError")()]
    mock_store.client.meta.events.register("before-send.s3.PutObject", lambda **_: left.pop() if left else None)
    mock_store.put_bytes("a", b"1")
    assert mock_store.get_bytes("a") == b"1"
    mock_store.client.meta.events.register("before-send.s3.GetObject", answers(503, "SlowDown"))
    with pytest.raises(StoreError, match=r"SlowDown \(HTTP 503\)") as caught:
        mock_store.get_bytes("a")
    assert caught.value.retryable


def test_configured_time_outs_override_those_of_the_connection() -> None:
    from botocore.config import Config

    theirs = Config(s3={"addressing_style": "path"}, connect_timeout=99)
    config = client_config(sections.Store(connect_timeout_seconds=3, read_timeout_seconds=4, attempts=7), theirs)
    assert config.s3 == {"addressing_style": "path"}
    assert (config.connect_timeout, config.read_timeout) == (3, 4)
    assert config.retries == {"mode": "standard", "total_max_attempts": 7}
