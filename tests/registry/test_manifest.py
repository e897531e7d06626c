"""Version numbers and object keys."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from learning_engine.errors import RegistryError
from learning_engine.records.contracts import LoraShape
from learning_engine.registry import manifest
from learning_engine.registry.manifest import Family, VersionNumber, next_number

SHAPE = LoraShape(16, 32.0, ("q_proj",))
TINY = Family("tiny", "r1", SHAPE)


def numbers(**families: Family) -> dict[VersionNumber, Family]:
    return {VersionNumber.parse(name.replace("_", ".")): family for name, family in families.items()}


def test_versions_are_ordered_numerically() -> None:
    names = ["v1.0", "v1.2", "v1.10", "v2.0", "v10.0"]
    assert [str(number) for number in sorted(map(VersionNumber.parse, reversed(names)))] == names


@pytest.mark.parametrize("text", ["1.0", "v1", "v1.", "v1.0.0", "v01.0", "v1.-1", "v1.0\n", "", "../v1.0", "v1.٣"])
def test_invalid_version_numbers_are_refused(text: str) -> None:
    with pytest.raises(RegistryError, match=r"such as v1\.3, found"):
        VersionNumber.parse(text)


@pytest.mark.parametrize(
    "other",
    [Family("big", "r1", SHAPE), Family("tiny", "r2", SHAPE), Family("tiny", "r1", LoraShape(8, 32.0, ("q_proj",)))],
)
def test_the_next_number_depends_on_the_family(other: Family) -> None:
    assert str(next_number({}, TINY)) == "v1.0"
    assert str(next_number(numbers(v1_0=TINY, v1_9=TINY), TINY)) == "v1.10"
    assert str(next_number(numbers(v1_0=TINY), other)) == "v2.0"
    assert str(next_number(numbers(v1_4=TINY, v2_0=other), TINY)) == "v1.5"
    assert str(next_number(numbers(v1_4=TINY, v2_0=other), other)) == "v2.1"
    # If two families share a major number, no number is allocated twice.
    assert str(next_number(numbers(v1_0=TINY, v1_1=other), TINY)) == "v1.2"


def test_a_server_name_has_prefix_version_and_digest() -> None:
    assert manifest.server_name("v1.3", "0123456789abcdef", "prod-") == "prod-v1.3-01234567"
    with pytest.raises(RegistryError):
        manifest.server_name("v1.3", "0123456789", "a=b")


def test_object_keys_have_their_documented_form() -> None:
    assert manifest.adapter_key("v1.3", manifest.METADATA) == "adapters/v1.3/metadata.json"
    assert manifest.fisher_key("base-1f", "fisher.json") == "fisher/base-1f/fisher.json"
    assert manifest.heldout_key("v1.3") == "heldout/v1.3/heldout.parquet"
    assert manifest.replay_key("v1.3") == "replay/v1.3/replay.parquet"
    assert manifest.run_key("ab", "checkpoints/1.tar.gz") == "runs/ab/checkpoints/1.tar.gz"
    assert manifest.run_key("ab", "checkpoints/") == "runs/ab/checkpoints/"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a b", "ä", "a\n"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="Expected a name"):
        manifest.adapter_key(name, "x")
    with pytest.raises(RegistryError, match="Expected a name"):
        manifest.adapter_key("v1.0", name)
    with pytest.raises(RegistryError, match="Expected a name"):
        manifest.run_key(name, "x")


def test_ledger_keys_sort_by_time() -> None:
    first = datetime(2026, 9, 7, 1, 59, 59, 999_999, tzinfo=UTC)
    later = (first + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=-9)))
    keys = [manifest.ledger_key(first, "v1.10"), manifest.ledger_key(later, None)]
    assert keys[0] == "deployments/ledger/20260907T015959.999999Z-v1.10.json"
    assert keys == sorted(keys)
    assert [manifest.ledger_time(key) for key in keys] == [first, later]
