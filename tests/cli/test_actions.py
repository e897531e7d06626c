"""Commands that start runs: request body, waiting, confirmation."""

import time

import pytest
from starlette.responses import Response

from learning_engine.cli import exit_codes, follow
from tests.cli import samples
from tests.cli.conftest import Run
from tests.cli.stub import ORDINARY, Stub, problem

STATUS = "GET /learning-engine/training/status"


def sent(stub: Stub, path: str) -> object:
    (question,) = stub.asked_for(f"/learning-engine{path}")
    return question["body"]


def test_train_sends_only_the_given_options(cli: Run, stub: Stub):
    shown = cli("train")
    assert shown.code == exit_codes.DONE
    assert samples.LONG_RUN in shown.out.replace("\n", "")
    assert f"{stub.url}/dags/learning_engine_weekly" in shown.out
    assert sent(stub, "/train") == {}


def test_train_sends_every_option(cli: Run, stub: Stub):
    words = (
        "--start 2026-09-14 --end 2026-09-21T00:00:00Z --min-samples 7 --ewc-lambda 0 --epochs 0.5 --learning-rate 1e-4"
        " --base-model tiny --deploy never --force count --note why --json"
    )
    assert cli("train", *words.split()).json["run_id"] == samples.LONG_RUN
    assert sent(stub, "/train") == {
        "window": {"start": "2026-09-14T00:00:00+00:00", "end": "2026-09-21T00:00:00+00:00"},
        "min_samples": 7,
        "ewc_lambda": 0.0,
        "epochs": 0.5,
        "learning_rate": 1e-4,
        "base_model": "tiny",
        "deploy": "never",
        "force": "count",
        "note": "why",
    }


def test_train_wait_follows_the_run_to_its_end(cli: Run, stub: Stub):
    shown = cli("train", "--wait")
    assert shown.code == exit_codes.DONE
    assert "v1.2" in shown.out
    assert "accepted by every rule" in shown.out
    lines = shown.err.splitlines()
    assert lines[:4] == [f"Run {samples.LONG_RUN}", "queued", "extract", "train"]
    assert lines[4] == "step 4 of 40, loss 0.421, EWC 0.0137, 3 min 20 s left"
    assert "deploy" in lines
    assert {question["query"]["run_id"] for question in stub.asked_for("/learning-engine/training/status")} == {
        samples.LONG_RUN
    }


def test_train_wait_fails_with_the_run(cli: Run, stub: Stub):
    failed = samples.training(samples.LONG_RUN, "failed", tasks=[samples.task("evaluate", "failed")])
    stub.trainings[samples.LONG_RUN] = [
        samples.training(samples.LONG_RUN, "running", "evaluate"),
        failed,
    ]
    shown = cli("train", "--wait", "--json")
    assert shown.code == exit_codes.FAILED
    assert shown.json["recent"][0]["state"] == "failed"
    assert f"Logs: {stub.url}/dags/learning_engine_weekly/runs/{samples.LONG_RUN}" in shown.err


def test_wait_survives_server_errors(cli: Run, stub: Stub):
    stub.instead[STATUS] = [problem(503, "the store is away"), Response("bad gateway", 502)]
    shown = cli("train", "--wait")
    assert shown.code == exit_codes.DONE
    assert "the store is away Retrying in" in shown.err
    assert "502 Bad Gateway" in shown.err


def test_pauses_after_errors_grow(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    stub.instead[STATUS] = [problem(500, f"error {number}") for number in range(4)]
    assert cli("train", "--wait").code == exit_codes.DONE
    assert pauses[1] == 2 * pauses[0]
    assert pauses[3] == 8 * pauses[0]


def test_an_expired_login_while_waiting_is_reported(cli: Run, stub: Stub):
    stub.instead[STATUS] = [ORDINARY, problem(401, "The token has expired.")]
    shown = cli("train", "--wait")
    assert shown.code == exit_codes.NO_ACCESS
    assert "The token has expired." in shown.err
    assert f"learning-engine login --url {stub.url}" in shown.err
    assert f"The run {samples.LONG_RUN} continues" in shown.err


def test_wait_times_out(cli: Run, stub: Stub):
    stub.trainings[samples.LONG_RUN] = [samples.training(samples.LONG_RUN, "running", "train")]
    shown = cli("train", "--wait", "--timeout", "0")
    assert shown.code == exit_codes.FAILED
    assert "found it running. The run continues." in shown.err


def test_a_pending_approval_is_shown_with_its_address(cli: Run, stub: Stub):
    asked = [samples.task("approve", "awaiting_input")]
    stub.trainings[samples.LONG_RUN] = [
        samples.training(samples.LONG_RUN, "running", "approve", tasks=asked),
        samples.training(samples.LONG_RUN, "success"),
    ]
    assert f"The run waits for approval: {stub.url}/dags/" in cli("train", "--wait").err


def test_ctrl_c_does_not_stop_the_run(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupted)
    shown = cli("train", "--wait")
    assert shown.code == exit_codes.INTERRUPTED
    assert f"The run {samples.LONG_RUN} continues." in shown.err


def test_status_shows_running_and_ended_runs(cli: Run, stub: Stub):
    assert cli("status").out == "No runs yet.\n"
    running = samples.training("r1", "running", "train", progress=samples.progress(20))
    stub.trainings = {
        "r1": [running],
        "r2": [samples.training("r2", "failed", tasks=[samples.task("train", "failed")])],
    }
    words = " ".join(cli("status", "--recent", "3").out.split())
    assert "run r1 state running task train training step 20 of 40, loss 0.421, EWC 0.0137" in words
    assert "run r2 state failed failed at train" in words
    assert stub.asked[-1]["query"] == {"recent": "3"}
    assert "r1" not in cli("status", "--run", "r2").out
    assert cli("status", "--run", "r3").code == exit_codes.NOT_FOUND


def test_watch_follows_the_first_active_run(cli: Run, stub: Stub):
    stub.trainings = {
        "first": [samples.training("first", "running", "train", progress=samples.progress(4))] * 3
        + [samples.training("first", "success")],
        "second": [samples.training("second", "queued")],
    }
    shown = cli("status", "--watch")
    assert shown.code == exit_codes.DONE
    assert shown.err.startswith("Run first\ntrain\nstep 4 of 40")
    assert "success" in shown.out


def test_watch_exits_with_the_result_of_the_run(cli: Run, stub: Stub):
    shown = cli("status", "--watch")
    assert (shown.code, shown.err) == (exit_codes.DONE, "No run is active.\n")
    stub.trainings["old"] = [samples.training("old", "failed")]
    assert cli("status", "--watch", "--run", "old").code == exit_codes.FAILED


def test_fisher_waits_for_airflows_run(cli: Run, stub: Stub):
    stub.dag_runs[samples.FISHER_RUN] = ["queued", "running", "success"]
    shown = cli("fisher", "v1.1", "--note", "again", "--wait", "--json")
    assert shown.code == exit_codes.DONE
    assert shown.json == {
        "dag_id": "learning_engine_fisher",
        "dag_run_id": samples.FISHER_RUN,
        "state": "success",
    }
    assert sent(stub, "/fisher/calculate") == {"version": "v1.1", "note": "again"}


class TestDeploy:
    def test_it_starts_a_run(self, cli: Run, stub: Stub):
        shown = cli("adapters", "deploy", "v1.0", "--yes", "--note", "better", "--json")
        assert shown.json["run_id"] == "manual__d1"
        assert sent(stub, "/adapters/v1.0/deploy") == {"note": "better"}

    def test_without_a_terminal_yes_is_required(self, cli: Run, stub: Stub):
        for command in (("adapters", "deploy", "v1.0"), ("rollback",), ("adapters", "rollback")):
            shown = cli(*command, stdin="y\n")
            assert (shown.code, shown.out) == (exit_codes.USAGE, "")
            assert "expected --yes" in shown.err
        assert not [question for question in stub.asked if question["method"] == "POST"]

    def test_it_waits_and_fails_with_the_run(self, cli: Run, stub: Stub):
        stub.dag_runs["manual__d1"] = ["running", "failed"]
        shown = cli("adapters", "deploy", "v1.0", "--yes", "--wait")
        assert shown.code == exit_codes.FAILED
        assert "manual__d1: failed" in shown.err
        assert f"{stub.url}/dags/learning_engine_deploy/runs/manual__d1" in shown.err

    def test_rollback_by_either_name(self, cli: Run, stub: Stub):
        stub.dag_runs["manual__r1"] = ["success"]
        for command in (("rollback",), ("adapters", "rollback")):
            assert cli(*command, "-y", "--wait").code == exit_codes.DONE
        assert [question["body"] for question in stub.asked_for("/learning-engine/rollback")] == [{}, {}]
