"""Translate the store's errors: which ones a retry can fix, and what to do about the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from learning_engine.errors import StoreError

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
REFUSED = frozenset({401, 403, 404})
# Storage or quota exhausted: the error codes of MinIO and Ceph, and MinIO's status.
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
FULL_STATUS = 507


class NotFound(StoreError):
    """There is no object under this key."""

    retryable = False


class StoreRefused(StoreError):
    """The store rejects the request: wrong credentials, or no such bucket."""

    retryable = False


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise boto3's errors in the block as StoreError, StoreRefused or NotFound; `what` names the failed operation."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _answered(error, what) from error
    # botocore does not wrap urllib3's error for an interrupted body, nor its own parser's error for half a response.
    except (BotoCoreError, Boto3Error, ResponseParserError, HTTPError) as error:
        # A retried download carries its last error. Only the class is shown, since str(error) of a proxy or parameter
        # error may hold credentials; the chained exception keeps it.
        last = getattr(error, "last_exception", error)
        raise StoreError(
            f"{what}: {type(last).__name__}; check that the store of the connection can be reached."
        ) from error


@contextmanager
def staged_by_run() -> Iterator[None]:
    """For reads of objects that an earlier step of the run staged: NotFound then says which step to clear."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            f"{error} An earlier step of this run had staged it: clear the run from `extract`; staged objects that "
            "still exist are reused."
        ) from error


def status_of(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: Any, what: str) -> StoreError:
    code, status = str(error.response.get("Error", {}).get("Code", "")), status_of(error)
    message = f"{what}: the store answered {code} (HTTP {status})"
    if code in ABSENT:
        return NotFound(f"{message}; there is no such object.")
    if code in FULL or status == FULL_STATUS:
        return StoreError(f"{message}: it is full or over its quota; make room or raise the quota, then retry.")
    if status in REFUSED:
        return StoreRefused(f"{message}; check the connection's credentials and that the bucket exists.")
    return StoreError(f"{message}; it is overloaded or failing: see its log, then try again.")
