"""A window's parent: the last eligible version before it, of the same base model and LoRA shape."""

from typing import Any

import pytest

from learning_engine.errors import ParentMoved
from learning_engine.records.contracts import LoraShape, Window
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from tests.registry.work import SHAPE, chain, stage, week


def parent_for(registry: Registry, window: Window, **changes: Any) -> str | None:
    wanted = {"base_model": "tiny-llama", "base_revision": "abc", "lora": SHAPE, **changes}
    found = registry.parent_for(window, **wanted)
    return found and found.version


def test_the_parent_is_the_last_version_before_the_window(store: Store, registry: Registry) -> None:
    chain(store, registry, 2)
    assert parent_for(registry, week(0)) is None
    assert parent_for(registry, week(1)) == "v1.0"
    assert parent_for(registry, week(2)) == "v1.1"
    assert parent_for(registry, week(9)) == "v1.1"
    halfway = Window(week(1).start, week(2).end)
    assert parent_for(registry, halfway) == "v1.0"


def test_a_later_version_of_the_same_window_is_the_parent(mock_store: Store, mock_registry: Registry) -> None:
    for number in range(11):
        stage(mock_store, f"run{number}", week(0)).publish(mock_registry)
    assert parent_for(mock_registry, week(1)) == "v1.10"


def test_rejected_and_revoked_versions_are_not_parents(store: Store, registry: Registry) -> None:
    chain(store, registry, 2)
    rejected = stage(store, "rejected", week(2), "v1.1", accepted=False).publish(registry)
    assert (rejected.version, rejected.accepted) == ("v1.2", False)
    assert parent_for(registry, week(3)) == "v1.1"
    assert registry.revoked("v1.1") is None
    first = registry.revoke("v1.1", by="ada", reason="rolled back to v1.0")
    second = registry.revoke("v1.1", by="bob", reason="again")
    assert first == second == registry.revoked("v1.1")
    assert second.by == "ada"
    assert parent_for(registry, week(3)) == "v1.0"
    assert parent_for(Registry(store), week(3)) == "v1.0"


def test_a_vouched_version_may_be_a_parent_until_it_is_revoked(store: Store, registry: Registry) -> None:
    chain(store, registry, 1)
    rejected = stage(store, "rejected", week(1), "v1.0", accepted=False).publish(registry)
    assert parent_for(registry, week(2)) == "v1.0"
    for name in ("ada", "bob"):
        registry.vouch(rejected.version, by=name, reason="put live against the gate")
    assert store.get_json("adapters/v1.1/vouched.json")["by"] == "ada"
    assert parent_for(Registry(store), week(2)) == "v1.1"
    registry.revoke("v1.1", by="ada", reason="a mistake")
    assert parent_for(registry, week(2)) == "v1.0"


@pytest.mark.parametrize(
    "other", [{"base_model": "big"}, {"base_revision": "def"}, {"lora": LoraShape(8, 32.0, ("k_proj", "q_proj"))}]
)
def test_another_base_or_shape_starts_a_major_number(
    mock_store: Store, mock_registry: Registry, other: dict[str, Any]
) -> None:
    chain(mock_store, mock_registry, 2)
    assert parent_for(mock_registry, week(2), **other) is None
    assert stage(mock_store, "other", week(2), **other).publish(mock_registry).version == "v2.0"
    assert parent_for(mock_registry, week(3), **other) == "v2.0"
    assert parent_for(mock_registry, week(3)) == "v1.1"
    assert stage(mock_store, "back", week(3), "v1.1").publish(mock_registry).version == "v1.2"
    newest = parent_for(mock_registry, week(9), base_revision=None)
    assert newest == "v1.2"


def test_a_run_whose_parent_has_changed_is_not_published(store: Store, registry: Registry) -> None:
    chain(store, registry, 1)
    late = stage(store, "late", week(2), "v1.0")
    stage(store, "between", week(1), "v1.0").publish(registry)
    with pytest.raises(ParentMoved, match=r"Expected v1\.1 as the parent .* continues v1\.0: .* clear this run"):
        late.publish(registry)
    registry.revoke("v1.1", by="ada", reason="bad")
    registry.revoke("v1.0", by="ada", reason="bad")
    with pytest.raises(ParentMoved, match="Expected the base model"):
        late.publish(registry)
    assert registry.numbers() == ["v1.0", "v1.1"]
    assert not list(store.list("adapters/v1.2/"))
