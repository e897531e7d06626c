"""Output of the read-only commands: the server's JSON byte for byte, or tables for 80 columns."""

import json

import pytest
import requests

from learning_engine.cli import exit_codes
from tests.cli import samples
from tests.cli.conftest import Run
from tests.cli.stub import Stub, problem

# Every read-only command.
READING = [
    ("health",),
    ("live",),
    ("storage",),
    ("preflight",),
    ("status",),
    ("deployments",),
    ("deployments", "--at", "2026-09-21T14:00:00Z"),
    ("adapters", "list"),
    ("adapters", "show", "v1.1"),
    ("adapters", "show", "v1.0"),
]


@pytest.fixture(autouse=True)
def runs(stub: Stub) -> None:
    running = samples.training(
        samples.LONG_RUN, "running", "train", progress=samples.progress(20), note="by hand " * 20
    )
    failed = samples.training("scheduled__2026-09-14", "failed", tasks=[samples.task("evaluate", "failed")])
    stub.trainings = {"a": [running], "b": [failed]}


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_json_prints_only_the_servers_json(cli: Run, stub: Stub, command: tuple[str, ...]):
    shown = cli(*command, "--json")
    assert shown.code == exit_codes.DONE
    assert shown.out.count("\n") == 1
    asked = stub.asked[-1]
    assert asked["path"].startswith("/learning-engine/")
    sent = requests.get(stub.url + asked["path"], params=asked["query"], headers=asked["headers"], timeout=10)
    assert shown.json == sent.json()
    assert "\x1b" not in shown.out


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_tables_fit_80_columns_without_colours(cli: Run, command: tuple[str, ...]):
    shown = cli(*command)
    assert shown.code == exit_codes.DONE
    assert shown.out.strip()
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    assert "\x1b" not in shown.out + shown.err
    assert "None" not in shown.out


def test_json_bytes_are_unchanged(cli: Run, stub: Stub):
    from starlette.responses import Response

    raw = '{"model":"m",   "version":null, "base_model":"\\u00fc", "since":null, "proven":null, "new": [1,2]}'
    stub.instead["GET /learning-engine/live"] = [Response(raw, media_type="application/json")]
    assert cli("live", "--json").out == raw + "\n"


def test_health_names_components_that_are_down(cli: Run, stub: Stub):
    assert "max-0" in cli("health").out
    stub.health = samples.health("degraded")
    assert cli("health").code == exit_codes.DONE
    stub.health = samples.health("down")
    shown = cli("health")
    assert shown.code == exit_codes.FAILED
    words = " ".join(shown.out.split())
    assert "down" in words
    assert "found none" in words
    assert cli("health", "--json").json["state"] == "down"


def test_a_failed_health_request_is_a_server_error(cli: Run, stub: Stub):
    stub.instead["GET /learning-engine/health"] = [problem(503, "StoreError: the store is away")]
    shown = cli("health")
    assert (shown.code, shown.out) == (exit_codes.SERVER_ERROR, "")
    assert "the store is away" in shown.err


def test_live_before_the_first_deployment(cli: Run, stub: Stub):
    assert "v1.1" in cli("live").out
    stub.ledger = ()
    assert "none: the base model is live" in cli("live").out


def test_preflight_sends_the_window_with_a_time_zone(cli: Run, stub: Stub):
    shown = cli("preflight", "--start", "2026-09-14", "--end", "2026-09-21T02:00:00+02:00")
    assert shown.code == exit_codes.DONE
    query = {"start": "2026-09-14T00:00:00+00:00", "end": "2026-09-21T02:00:00+02:00"}
    assert stub.asked[-1]["query"] == query
    words = " ".join(shown.out.split())
    assert "300 of 315 read" in words
    assert "overlaps v1.2, v1.1" in words
    assert "13 (10 unreadable, 3 too_long)" in words
    assert "memory unknown No training yet." in words
    assert "3.5, based on v1.1" in words


def test_preflight_fails_on_too_few_rows(cli: Run, stub: Stub):
    stub.preflight = samples.preflight(passed=False)
    shown = cli("preflight", "--json")
    assert shown.code == exit_codes.FAILED
    assert shown.json["count_gate"]["passed"] is False
    assert "Too few rows" in shown.err


@pytest.mark.parametrize("words", [("--start", "2026-09-14"), ("--end", "2026-09-14"), ("--start", "x", "--end", "y")])
def test_incomplete_or_invalid_windows_are_usage_errors(cli: Run, stub: Stub, words: tuple[str, ...]):
    assert cli("preflight", *words).code == exit_codes.USAGE
    assert stub.asked == []


def test_metrics_as_text_and_as_samples(cli: Run):
    assert cli("metrics").out == samples.METRICS
    first, _, last = cli("metrics", "--json").json
    labels = {"rating": "up", "version": "v1.1"}
    assert first == {"name": "learning_engine_samples", "labels": labels, "value": 250.0}
    assert last["value"] == "nan"


def test_storage_shows_sizes_and_counts(cli: Run):
    words = " ".join(cli("storage").out.split())
    assert "bytes 56.8 MB versions 2: 1 accepted, 1 rejected, 1 revoked" in words
    assert "adapters 34 50.0 MB" in words


def test_control_characters_are_replaced(cli: Run, stub: Stub):
    stub.trainings = {"a": [samples.training("a", "running", "train", note="[red]\x1b]0;owned\x07\x9b2Jdone\r:wave:")]}
    shown = cli("status")
    assert "[red]\ufffd]0;owned\ufffd\ufffd2Jdone\ufffd:wave:" in shown.out
    raw = cli("status", "--json").out
    assert json.loads(raw)["current"][0]["note"].startswith("[red]\x1b")


def test_deployment_history_and_lookup(cli: Run, stub: Stub):
    shown = cli("deployments", "--limit", "1")
    assert "2026-09-21 14:30" in shown.out
    assert "A rollback would return to v1.0." in shown.out
    assert shown.err == "1 of 2; more with --offset 1.\n"
    at = cli("deployments", "--at", "2026-09-21T13:45:00Z", "--json").json
    assert at["version"] == "v1.0"
    assert "base model was live" in cli("deployments", "--at", "2020-01-01").out
    stub.damaged = ("20260901T000000.000000Z-v0.9.json",)
    assert "Cannot be read: 20260901T000000.000000Z-v0.9.json." in cli("deployments").err
    stub.ledger = ()
    assert "Nothing has been deployed yet" in cli("deployments").out
