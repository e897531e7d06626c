"""Records read and written by many threads at once, as the registry's listing does."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from learning_engine.records import base as records
from learning_engine.records.base import Record, RecordError

THREADS = 8


class Watched(TypeAdapter[Any]):
    """Counts the schemas built, and the most built at the same time."""

    lock = threading.Lock()
    built, now, most = 0, 0, 0

    def __init__(self, kind: Any) -> None:
        with self.lock:
            Watched.built, Watched.now = self.built + 1, self.now + 1
            Watched.most = max(self.most, self.now)
        time.sleep(0.02)  # Gives every other thread time to arrive.
        super().__init__(kind)
        with self.lock:
            Watched.now -= 1


def test_schemas_are_built_once_and_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class First(Record):
        number: int

    @dataclass(frozen=True)
    class Second(Record):
        number: int

    monkeypatch.setattr(records, "TypeAdapter", Watched)
    together = threading.Barrier(THREADS)

    def round_trip(number: int) -> Record:
        together.wait(10)
        kind = (First, Second)[number % 2]
        return kind.from_json(kind(number).to_json())

    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(round_trip, range(THREADS)))
    assert made == [(First, Second)[number % 2](number) for number in range(THREADS)]
    assert (Watched.built, Watched.most) == (2, 1)


def test_an_invalid_record_is_refused() -> None:
    @dataclass(frozen=True)
    class Counted(Record):
        number: int

    whole = Counted(3).to_json()
    with pytest.raises(RecordError, match="found 'Other' of schema 1"):
        Counted.from_json(whole | {"record": "Other"})
    with pytest.raises(RecordError, match="found 'Counted' of schema 2"):
        Counted.from_json(whole | {"schema": 2})
    with pytest.raises(RecordError, match="Not a readable Counted record"):
        Counted.from_json(whole | {"number": "three"})
