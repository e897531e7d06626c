"""GET /preflight: what a run over a window would find."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.steps.conftest import week
from tests.web.conftest import Site

ROOT = "/learning-engine"


def asked(client: TestClient, number: int) -> dict[str, Any]:
    window = week(number)
    answer = client.get(f"{ROOT}/preflight", params={"start": window.start.isoformat(), "end": window.end.isoformat()})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_preflight_matches_the_actual_run(site: Site, viewer: TestClient):
    dataset = site.loop.resources.registry.get("v1.1").dataset
    found = asked(viewer, 1)
    same = ("read", "rows", "thumbs_up", "thumbs_down", "users", "conversations", "tokens", "dropped", "quarantined")
    assert {name: found[name] for name in same} == {name: getattr(dataset, name) for name in same}
    assert found["parent"] == "v1.0"
    assert found["count_gate"]["passed"]
    assert found["count_gate"]["found"] == dataset.rows


def test_overlapping_versions_are_named(site: Site, viewer: TestClient):
    first, second = week(0), week(1)
    params = {"start": (second.start - timedelta(hours=2)).isoformat(), "end": second.end.isoformat()}
    cutting = viewer.get(f"{ROOT}/preflight", params=params).json()
    assert (cutting["parent"], cutting["overlapping"]) == (None, ["v1.1", "v1.0"])
    assert asked(viewer, 1)["overlapping"] == ["v1.1"]
    assert first.end == second.start
    assert asked(viewer, -3)["overlapping"] == []


def test_preflight_writes_nothing_to_the_bucket(site: Site, viewer: TestClient):
    before = {stored.key for stored in site.loop.resources.store.list()}
    asked(viewer, 1)
    assert {stored.key for stored in site.loop.resources.store.list()} == before


def test_too_few_rows_fail_the_count_gate(viewer: TestClient):
    found = asked(viewer, -3)
    assert found["rows"] == 0
    assert found["count_gate"] == {
        "passed": False,
        "needed": 10,
        "found": 0,
        "why": "0 rows, 10 are needed; a scheduled run carries them into the next window",
    }


def test_memory_is_estimated_from_the_last_training(site: Site, viewer: TestClient):
    last = site.loop.resources.registry.get("v1.2").training
    memory = asked(viewer, 1)["memory"]
    assert (memory["fits"], memory["expected_bytes"]) == (None, last.peak_memory_bytes), "unknown on a CPU"
    assert "v1.2 used" in memory["why"]


@pytest.mark.parametrize(
    ("section", "changed"),
    [("training", {"gradient_checkpointing": True}), ("training", {"batch_size": 3}), ("lora", {"rank": 4})],
)
def test_memory_is_not_estimated_from_a_training_with_other_settings(
    viewer: TestClient, override_settings: Callable[..., None], section: str, changed: dict[str, Any]
):
    override_settings(section, **changed)
    assert asked(viewer, 1)["memory"]["expected_bytes"] is None


def test_carry_over_is_not_mentioned_if_disabled(viewer: TestClient, override_settings: Callable[..., None]):
    override_settings("window", carry_over=False)
    assert asked(viewer, -3)["count_gate"]["why"] == "0 rows, 10 are needed"


@pytest.mark.parametrize(
    "params",
    [
        {"start": "2026-10-05T02:00:00Z"},
        {"start": "2026-10-12T02:00:00Z", "end": "2026-10-05T02:00:00Z"},
        {"start": "2026-10-12T02:00:00Z", "end": "2999-01-01T00:00:00Z"},
        {"start": "2026-10-05", "end": "2026-10-12"},
    ],
)
def test_invalid_windows_are_rejected(viewer: TestClient, params: dict[str, str]):
    assert viewer.get(f"{ROOT}/preflight", params=params).status_code == 422
