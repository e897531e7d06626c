"""What is shown: the server's JSON byte for byte, or tables that fit a narrow terminal."""

import json

import pytest

from learning_engine.cli import codes
from tests.cli import scene
from tests.cli.conftest import Run
from tests.cli.server import Stage

# Every command that reads, with an answer worth showing.
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
def runs(stage: Stage) -> None:
    running = scene.training(scene.LONG_RUN, "running", "train", progress=scene.progress(20), note="by hand " * 20)
    failed = scene.training("scheduled__2026-09-14", "failed", tasks=[scene.task("evaluate", "failed")])
    stage.trainings = {"a": [running], "b": [failed]}


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_json_is_the_servers_own_and_alone_on_stdout(cli: Run, stage: Stage, command: tuple[str, ...]):
    shown = cli(*command, "--json")
    assert shown.code == codes.DONE
    again = cli(*command, "--json")
    assert shown.json == again.json
    assert shown.out.count("\n") == 1
    path = next(question["path"] for question in reversed(stage.asked))
    assert path.startswith("/learning-engine/")
    assert "\x1b" not in shown.out


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_tables_fit_eighty_columns_and_have_no_colours(cli: Run, command: tuple[str, ...]):
    shown = cli(*command)
    assert shown.code == codes.DONE
    assert shown.out.strip()
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    assert "\x1b" not in shown.out + shown.err
    assert "None" not in shown.out


def test_the_bytes_are_not_touched(cli: Run, stage: Stage):
    from starlette.responses import Response

    raw = '{"model":"m",   "version":null, "base_model":"\\u00fc", "since":null, "proven":null, "new": [1,2]}'
    stage.instead["GET /learning-engine/live"] = [Response(raw, media_type="application/json")]
    assert cli("live", "--json").out == raw + "\n"


def test_health_names_what_is_down_and_why(cli: Run, stage: Stage):
    assert "max-0" in cli("health").out
    stage.health = scene.health("degraded")
    assert cli("health").code == codes.DONE
    stage.health = scene.health("down")
    shown = cli("health")
    assert shown.code == codes.FAILED
    words = " ".join(shown.out.split())
    assert "down" in words
    assert "found none" in words
    assert cli("health", "--json").json["state"] == "down"


def test_a_failing_store_is_no_health(cli: Run, stage: Stage):
    from tests.cli.server import problem

    stage.instead["GET /learning-engine/health"] = [problem(503, "StoreError: the store is away")]
    shown = cli("health")
    assert (shown.code, shown.out) == (codes.SERVER_ERROR, "")
    assert "the store is away" in shown.err


def test_live_before_the_first_deployment(cli: Run, stage: Stage):
    assert "v1.1" in cli("live").out
    stage.ledger = ()
    assert "none: the base model answers" in cli("live").out


def test_preflight_asks_for_the_window_in_utc(cli: Run, stage: Stage):
    shown = cli("preflight", "--start", "2026-09-14", "--end", "2026-09-21T02:00:00+02:00")
    assert shown.code == codes.DONE
    query = {"start": "2026-09-14T00:00:00+00:00", "end": "2026-09-21T02:00:00+02:00"}
    assert stage.asked[-1]["query"] == query
    words = " ".join(shown.out.split())
    assert "300 of 315 read" in words
    assert "learned before in part or whole by v1.2, v1.1" in words
    assert "13 (10 unreadable, 3 too_long)" in words
    assert "memory unknown No training yet." in words
    assert "3.5, by v1.1" in words


def test_preflight_fails_where_there_are_too_few_rows(cli: Run, stage: Stage):
    stage.preflight = scene.preflight(passed=False)
    shown = cli("preflight", "--json")
    assert shown.code == codes.FAILED
    assert shown.json["count_gate"]["passed"] is False
    assert "Too few rows" in shown.err


@pytest.mark.parametrize("words", [("--start", "2026-09-14"), ("--end", "2026-09-14"), ("--start", "x", "--end", "y")])
def test_half_a_window_or_no_time_is_not_understood(cli: Run, stage: Stage, words: tuple[str, ...]):
    assert cli("preflight", *words).code == codes.USAGE
    assert stage.asked == []


def test_metrics_come_as_prometheus_reads_them_or_as_samples(cli: Run):
    assert cli("metrics").out == scene.METRICS
    first, _, last = cli("metrics", "--json").json
    labels = {"rating": "up", "version": "v1.1"}
    assert first == {"name": "learning_engine_samples", "labels": labels, "value": 250.0}
    assert last["value"] == "nan"


def test_storage_says_how_much_of_what(cli: Run):
    words = " ".join(cli("storage").out.split())
    assert "bytes 56.8 MB versions 2: 1 accepted, 1 rejected, 1 revoked" in words
    assert "adapters 34 50.0 MB" in words


def test_what_others_wrote_cannot_steer_the_terminal(cli: Run, stage: Stage):
    stage.trainings = {"a": [scene.training("a", "running", "train", note="[red]\x1b]0;owned\x07\x9b2Jdone\r:wave:")]}
    shown = cli("status")
    assert "[red]\ufffd]0;owned\ufffd\ufffd2Jdone\ufffd:wave:" in shown.out
    raw = cli("status", "--json").out
    assert json.loads(raw)["current"][0]["note"].startswith("[red]\x1b")


def test_the_ledger_and_a_moment_of_it(cli: Run, stage: Stage):
    shown = cli("deployments", "--limit", "1")
    assert "2026-09-21 14:30" in shown.out
    assert "A rollback would return to v1.0." in shown.out
    assert shown.err == "1 of 2; more with --offset 1.\n"
    at = cli("deployments", "--at", "2026-09-21T13:45:00Z", "--json").json
    assert at["version"] == "v1.0"
    assert "base model answered" in cli("deployments", "--at", "2020-01-01").out
    stage.damaged = ("20260901T000000.000000Z-v0.9.json",)
    assert "Cannot be read: 20260901T000000.000000Z-v0.9.json." in cli("deployments").err
    stage.ledger = ()
    assert "Nothing was deployed yet" in cli("deployments").out
