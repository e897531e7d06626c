"""One S3 bucket, accessed through the boto3 client of Airflow's S3Hook.

Every object carries its sha256 as object metadata, and every read is checked against a digest, because not every store
verifies uploads. Conditional writes ("only if absent") are only as atomic as the store makes them; callers that need
mutual exclusion read back what was stored.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from learning_engine import telemetry
from learning_engine.archive import CHUNK, sha256_file
from learning_engine.config import sections
from learning_engine.errors import ConfigError, IntegrityError
from learning_engine.records.base import Record, RecordError
from learning_engine.registry.failures import NotFound, StoreRefused, status_of, translated

if TYPE_CHECKING:
    from botocore.config import Config

R = TypeVar("R", bound=Record)
__all__ = ["NotFound", "Store", "StoreRefused", "Stored", "client_config", "encode"]


@dataclass(frozen=True)
class Stored:
    """An object as the store describes it. `sha256` is None in a listing, and if another program wrote the object."""

    key: str
    size: int
    modified: datetime
    sha256: str | None = None


def client_config(store: sections.Store, connection: "Config | None" = None) -> "Config":
    """Timeouts and retries for the S3Hook, which override the connection's own `config_kwargs`.

    Checksums that only newer S3 stores support are switched off: the signature and our sha256 already cover the bytes.
    """
    from botocore.config import Config

    ours = Config(
        connect_timeout=store.connect_timeout_seconds,
        read_timeout=store.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": store.attempts},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return connection.merge(ours) if connection else ours


class Store:
    """The objects below `prefix` in one bucket. Keys are relative to the prefix; safe to share among threads.

    Every method raises StoreError if the store is unreachable or fails, StoreRefused if it rejects the request,
    NotFound if there is no such object, and IntegrityError if the bytes differ from those written or are not the
    expected record.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._conditional = True

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def key(self, uri: str) -> str:
        """The key of a URI made by `uri`. Raises ConfigError for a URI of another bucket or prefix."""
        root = self.uri("")
        if not uri.startswith(root) or uri == root:
            raise ConfigError(f"Expected an object below {root}, found {uri}: check store.bucket and store.prefix.")
        return uri.removeprefix(root)

    def put_bytes(self, key: str, data: bytes) -> str:
        """Write an object; return its sha256."""
        digest = hashlib.sha256(data).hexdigest()
        with self._errors("write", key):
            self.client.put_object(**self._at(key), Body=data, Metadata={"sha256": digest})
        return digest

    def put_json(self, key: str, value: Any) -> str:
        return self.put_bytes(key, encode(value))

    def put_file(self, key: str, path: Path) -> str:
        """Upload a file, in several parts if it is large; return its sha256."""
        digest = sha256_file(path)
        with self._errors("write", key), path.open("rb") as file:
            self.client.upload_fileobj(file, self.bucket, self.prefix + key, ExtraArgs={"Metadata": {"sha256": digest}})
        return digest

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; True if this call wrote it.

        False may also mean that an earlier attempt of this call wrote it (the client retries when a response is lost).
        On a store without atomic conditions, several concurrent callers may get True. So read back what was stored.
        """
        if not self._conditional:
            return self._head_then_put(key, data)
        from botocore.exceptions import ClientError

        digest = hashlib.sha256(data).hexdigest()
        with self._errors("create", key):
            try:
                self.client.put_object(**self._at(key), Body=data, Metadata={"sha256": digest}, IfNoneMatch="*")
            except ClientError as error:
                status = status_of(error)
                if status in (409, 412):
                    return False
                if status != 501:
                    raise
            else:
                return True
        self._conditional = False
        telemetry.event(
            "store.no_conditions", bucket=self.bucket, note="checks for the object before each write instead"
        )
        return self._head_then_put(key, data)

    def _head_then_put(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        self.put_bytes(key, data)
        return True

    def get_bytes(self, key: str, sha256: str | None = None) -> bytes:
        """Read a small object, checked against `sha256` or, without it, the digest stored with the object."""
        with self._errors("read", key):
            answer = self.client.get_object(**self._at(key))
            data: bytes = answer["Body"].read()
        self._check(key, sha256 or _digest_in(answer), hashlib.sha256(data).hexdigest())
        return data

    def get_json(self, key: str) -> Any:
        try:
            return json.loads(self.get_bytes(key))
        except ValueError as error:
            raise IntegrityError(f"Expected JSON in {self.uri(key)}, found other content: {error}") from error

    def get_record(self, key: str, kind: type[R]) -> R:
        """Read a record. Raises IntegrityError for corrupt bytes, other content than JSON, or another schema."""
        try:
            return kind.from_json(self.get_json(key))
        except RecordError as error:
            raise IntegrityError(
                f"{self.uri(key)}: {error} If the object is corrupt, restore it from your backup."
            ) from error

    def get_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Download to `path`, which appears only once its digest matches `sha256` or the one stored with the object."""
        from boto3.s3.transfer import TransferConfig

        # Each of these attempts includes the client's own: by default that makes 25 waits for a silent store.
        config = TransferConfig(num_download_attempts=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            with self._errors("read", key):
                self.client.download_file(self.bucket, self.prefix + key, str(part), Config=config)
            self._check(key, sha256 or self.head(key).sha256, sha256_file(part))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def chunks(self, key: str, size: int) -> Iterator[bytes]:
        """An object's bytes, unchecked. This call opens the object; the iterator reads it."""
        with self._errors("read", key):
            body = self.client.get_object(**self._at(key))["Body"]
        return self._chunks_of(body, key, size)

    def _chunks_of(self, body: Any, key: str, size: int) -> Iterator[bytes]:
        with self._errors("read", key):
            yield from body.iter_chunks(size)

    def digest(self, key: str) -> str:
        """The sha256 of an object's current bytes, computed in constant memory."""
        found = hashlib.sha256()
        for chunk in self.chunks(key, CHUNK):
            found.update(chunk)
        return found.hexdigest()

    def head(self, key: str) -> Stored:
        with self._errors("stat", key):
            answer = self.client.head_object(**self._at(key))
        return Stored(key, answer["ContentLength"], answer["LastModified"], _digest_in(answer))

    def exists(self, key: str) -> bool:
        try:
            self.head(key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Every object whose key starts with `prefix`, in key order."""
        with self._errors("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield Stored(entry["Key"].removeprefix(self.prefix), entry["Size"], entry["LastModified"])

    def copy(self, source: str, target: str) -> None:
        """Copy an object (5 GiB at most) within the store, including its digest."""
        with self._errors("copy", source):
            self.client.copy_object(**self._at(target), CopySource={"Bucket": self.bucket, "Key": self.prefix + source})

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is no error."""
        for key in keys:
            with self._errors("delete", key):
                self.client.delete_object(**self._at(key))

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _check(self, key: str, expected: str | None, found: str) -> None:
        if expected and expected != found:
            raise IntegrityError(
                f"{self.uri(key)}: expected sha256 {expected}, found {found}; its bytes have changed: do not use it."
            )

    def _errors(self, operation: str, key: str) -> AbstractContextManager[None]:
        return translated(f"Cannot {operation} {self.uri(key)}")


def _digest_in(answer: Any) -> str | None:
    """The digest in a response's metadata. Stores and proxies may change the case of metadata names."""
    return {name.lower(): value for name, value in answer["Metadata"].items()}.get("sha256")


def encode(value: Any) -> bytes:
    """JSON as stored in the bucket: indented, keys in the record's order."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
