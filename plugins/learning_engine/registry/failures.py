"""The store's failures as ours: which another try can mend, and what to do about the others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from learning_engine.errors import StoreError

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
REFUSED = frozenset({401, 403, 404})
# No room: MinIO's and Ceph's words for it, and the status of the former.
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
FULL_STATUS = 507


class NotFound(StoreError):
    """No object lies under this key."""

    retryable = False


class StoreRefused(StoreError):
    """The store answers, but will not do this: wrong credentials, or no such bucket."""

    retryable = False


@contextmanager
def translated(what: str) -> Iterator[None]:
    """boto3's errors in the block as StoreError, StoreRefused or NotFound; `what` is what could not be done."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _answered(error, what) from error
    # botocore lets through urllib3's own error where an answer's body breaks off, and its parser's for half an answer.
    except (BotoCoreError, Boto3Error, ResponseParserError, HTTPError) as error:
        # A download that was tried again says what happened last. str(error) of a proxy or a parameter error may hold
        # credentials; the chained exception keeps it.
        last = getattr(error, "last_exception", error)
        raise StoreError(
            f"{what}: {type(last).__name__}; check that the store of the connection can be reached."
        ) from error


@contextmanager
def staged_by_run() -> Iterator[None]:
    """NotFound in the block, which reads what an earlier step of the run has staged, says which step to clear."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            f"{error} An earlier step of this run had staged it: clear the run from `extract`; what is still there is "
            "used again."
        ) from error


def status_of(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: Any, what: str) -> StoreError:
    code, status = str(error.response.get("Error", {}).get("Code", "")), status_of(error)
    message = f"{what}: the store answers {code} (HTTP {status})"
    if code in ABSENT:
        return NotFound(f"{message}; there is no such object.")
    if code in FULL or status == FULL_STATUS:
        return StoreError(f"{message}: it is full or over its quota; make room, or raise the quota, and try again.")
    if status in REFUSED:
        return StoreRefused(f"{message}; check the connection's credentials and that the bucket exists.")
    return StoreError(f"{message}; it is overloaded or failing: see its log, and try again.")
