"""Probes survive the round trip through the bucket, and corrupt ones are refused without showing their content."""

import json

import pytest

from learning_engine.errors import IntegrityError
from learning_engine.records import probe
from learning_engine.records.probe import Probe

PROBES = [Probe([{"role": "user", "content": "Größe? 😀"}], [1, 2], " a\n", 1.25), Probe([], [], "", 0.0)]


def test_round_trip_gives_the_same_bytes() -> None:
    assert probe.load(probe.dump(PROBES)) == PROBES
    assert probe.dump(probe.load(probe.dump(PROBES))) == probe.dump(PROBES)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes that are not"),
        (b"secret", "6 bytes that are not"),
        (b"[]", "2 bytes that are not"),
        (b'{"probes": []}', "bytes that are not"),
        (b'{"schema": 2, "probes": []}', "schema 1, found 2"),
        (b'{"schema": 1, "probes": {"secret": 1}}', "found other types at"),
        (b'{"schema": 1, "probes": [{"messages": "secret", "tokens": ["secret"]}]}', "found other types at 0"),
    ],
)
def test_invalid_probes_are_refused_without_their_content(data: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason) as caught:
        probe.load(data)
    assert "secret" not in str(caught.value)


def test_a_margin_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        probe.dump([Probe([], [], "", float("nan"))])
    assert json.loads(probe.dump(PROBES))["schema"] == 1
