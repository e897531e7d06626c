"""What happens to objects in the bucket, and which objects it happens to."""

import json
from collections.abc import Callable

import pytest

from learning_engine.registry import manifest
from tests.faults.weeks import Weeks

Harm = Callable[[bytes], bytes]
Key = Callable[[Weeks], str]


def one_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def another_schema(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"schema": 99}).encode()


HARMS = [one_bit, pytest.param(cut_short, marks=pytest.mark.stack)]


def modify(weeks: Weeks, key: str, harm: Harm, *, forget: bool = False) -> None:
    """Rewrite an object; keep its metadata, or drop them as a program that ignores them would."""
    at = {"Bucket": weeks.store.bucket, "Key": weeks.store.prefix + key}
    answer = weeks.client.get_object(**at)
    data = answer["Body"].read()
    assert harm(data) != data
    weeks.client.put_object(**at, Body=harm(data), Metadata={} if forget else answer["Metadata"])


def of_run(name: str) -> Key:
    return lambda weeks: manifest.run_key(weeks.dataset.run_key, name)


def always(key: str) -> Key:
    return lambda weeks: key


def fisher_file(weeks: Weeks) -> str:
    return weeks.store.key(str(weeks.fisher.uri))
