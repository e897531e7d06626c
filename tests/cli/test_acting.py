"""What starts runs: the body that is sent, the wait for the end, the question before."""

import time

import pytest
from starlette.responses import Response

from learning_engine.cli import codes, following
from tests.cli import scene
from tests.cli.conftest import Run
from tests.cli.server import ORDINARY, Stage, problem

STATUS = "GET /learning-engine/training/status"


def sent(stage: Stage, path: str) -> object:
    (question,) = stage.asked_for(f"/learning-engine{path}")
    return question["body"]


def test_train_sends_what_was_said_and_nothing_else(cli: Run, stage: Stage):
    shown = cli("train")
    assert shown.code == codes.DONE
    assert scene.LONG_RUN in shown.out.replace("\n", "")
    assert f"{stage.url}/dags/learning_engine_weekly" in shown.out
    assert sent(stage, "/train") == {}


def test_train_sends_every_option(cli: Run, stage: Stage):
    words = (
        "--start 2026-09-14 --end 2026-09-21T00:00:00Z --min-samples 7 --ewc-lambda 0 --epochs 0.5 --learning-rate 1e-4"
        " --base-model tiny --deploy never --force count --note why --json"
    )
    assert cli("train", *words.split()).json["run_id"] == scene.LONG_RUN
    assert sent(stage, "/train") == {
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


def test_train_wait_follows_the_run_to_its_end(cli: Run, stage: Stage):
    shown = cli("train", "--wait")
    assert shown.code == codes.DONE
    assert "v1.2" in shown.out
    assert "accepted by every rule" in shown.out
    lines = shown.err.splitlines()
    assert lines[:4] == [f"Run {scene.LONG_RUN}", "queued", "extract", "train"]
    assert lines[4] == "step 4 of 40, loss 0.421, EWC 0.0137, 3 min 20 s to go"
    assert "deploy" in lines
    assert {question["query"]["run_id"] for question in stage.asked_for("/learning-engine/training/status")} == {
        scene.LONG_RUN
    }


def test_train_wait_fails_with_the_run(cli: Run, stage: Stage):
    failed = scene.training(scene.LONG_RUN, "failed", tasks=[scene.task("evaluate", "failed")])
    stage.trainings[scene.LONG_RUN] = [scene.training(scene.LONG_RUN, "running", "evaluate"), failed]
    shown = cli("train", "--wait", "--json")
    assert shown.code == codes.FAILED
    assert shown.json["recent"][0]["state"] == "failed"
    assert f"Its logs: {stage.url}/dags/learning_engine_weekly/runs/{scene.LONG_RUN}" in shown.err


def test_the_wait_goes_on_while_the_server_is_away(cli: Run, stage: Stage):
    stage.instead[STATUS] = [problem(503, "the store is away"), Response("bad gateway", 502)]
    shown = cli("train", "--wait")
    assert shown.code == codes.DONE
    assert "the store is away Asking again in" in shown.err
    assert "502 Bad Gateway" in shown.err


def test_pauses_after_errors_grow(cli: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    stage.instead[STATUS] = [problem(500, f"error {number}") for number in range(4)]
    assert cli("train", "--wait").code == codes.DONE
    assert pauses[1] == 2 * pauses[0]
    assert pauses[3] == 8 * pauses[0]


def test_a_login_that_expires_while_waiting_says_that_the_run_goes_on(cli: Run, stage: Stage):
    stage.instead[STATUS] = [ORDINARY, problem(401, "The token has expired.")]
    shown = cli("train", "--wait")
    assert shown.code == codes.NO_ACCESS
    assert "The token has expired." in shown.err
    assert f"learning-engine login --url {stage.url}" in shown.err
    assert f"The run {scene.LONG_RUN} goes on" in shown.err


def test_the_wait_has_a_bound(cli: Run, stage: Stage):
    stage.trainings[scene.LONG_RUN] = [scene.training(scene.LONG_RUN, "running", "train")]
    shown = cli("train", "--wait", "--timeout", "0")
    assert shown.code == codes.FAILED
    assert "found it running. The run goes on." in shown.err


def test_a_person_who_is_asked_is_told_where(cli: Run, stage: Stage):
    asked = [scene.task("approve", "awaiting_input")]
    stage.trainings[scene.LONG_RUN] = [
        scene.training(scene.LONG_RUN, "running", "approve", tasks=asked),
        scene.training(scene.LONG_RUN, "success"),
    ]
    assert f"A person is asked whether to deploy: {stage.url}/dags/" in cli("train", "--wait").err


def test_ctrl_c_leaves_the_run_alone(cli: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupted)
    shown = cli("train", "--wait")
    assert shown.code == codes.INTERRUPTED
    assert f"The run {scene.LONG_RUN} goes on." in shown.err


def test_status_shows_what_runs_and_what_ended(cli: Run, stage: Stage):
    assert cli("status").out == "No run yet.\n"
    running = scene.training("r1", "running", "train", progress=scene.progress(20))
    stage.trainings = {"r1": [running], "r2": [scene.training("r2", "failed", tasks=[scene.task("train", "failed")])]}
    words = " ".join(cli("status", "--recent", "3").out.split())
    assert "run r1 state running task train training step 20 of 40, loss 0.421, EWC 0.0137" in words
    assert "run r2 state failed failed at train" in words
    assert stage.asked[-1]["query"] == {"recent": "3"}
    assert "r1" not in cli("status", "--run", "r2").out
    assert cli("status", "--run", "r3").code == codes.NOT_FOUND


def test_watch_ends_with_the_run_whose_turn_it_is(cli: Run, stage: Stage):
    stage.trainings = {
        "first": [scene.training("first", "running", "train", progress=scene.progress(4))] * 3
        + [scene.training("first", "success")],
        "second": [scene.training("second", "queued")],
    }
    shown = cli("status", "--watch")
    assert shown.code == codes.DONE
    assert shown.err.startswith("Run first\ntrain\nstep 4 of 40")
    assert "success" in shown.out


def test_watch_of_a_failed_run_fails_and_of_none_does_not(cli: Run, stage: Stage):
    shown = cli("status", "--watch")
    assert (shown.code, shown.err) == (codes.DONE, "No run is active.\n")
    stage.trainings["old"] = [scene.training("old", "failed")]
    assert cli("status", "--watch", "--run", "old").code == codes.FAILED


def test_fisher_waits_for_airflows_run(cli: Run, stage: Stage):
    stage.dag_runs[scene.FISHER_RUN] = ["queued", "running", "success"]
    shown = cli("fisher", "v1.1", "--note", "again", "--wait", "--json")
    assert shown.code == codes.DONE
    assert shown.json == {"dag_id": "learning_engine_fisher", "dag_run_id": scene.FISHER_RUN, "state": "success"}
    assert sent(stage, "/fisher/calculate") == {"version": "v1.1", "note": "again"}


class TestDeploy:
    def test_it_starts_a_run(self, cli: Run, stage: Stage):
        shown = cli("adapters", "deploy", "v1.0", "--yes", "--note", "better", "--json")
        assert shown.json["run_id"] == "manual__d1"
        assert sent(stage, "/adapters/v1.0/deploy") == {"note": "better"}

    def test_without_a_terminal_it_must_be_told_yes(self, cli: Run, stage: Stage):
        for command in (("adapters", "deploy", "v1.0"), ("rollback",), ("adapters", "rollback")):
            shown = cli(*command, stdin="y\n")
            assert (shown.code, shown.out) == (codes.USAGE, "")
            assert "expected --yes" in shown.err
        assert not [question for question in stage.asked if question["method"] == "POST"]

    def test_it_waits_and_fails_with_the_run(self, cli: Run, stage: Stage):
        stage.dag_runs["manual__d1"] = ["running", "failed"]
        shown = cli("adapters", "deploy", "v1.0", "--yes", "--wait")
        assert shown.code == codes.FAILED
        assert "manual__d1: failed" in shown.err
        assert f"{stage.url}/dags/learning_engine_deploy/runs/manual__d1" in shown.err

    def test_rollback_by_either_name(self, cli: Run, stage: Stage):
        stage.dag_runs["manual__r1"] = ["success"]
        for command in (("rollback",), ("adapters", "rollback")):
            assert cli(*command, "-y", "--wait").code == codes.DONE
        assert [question["body"] for question in stage.asked_for("/learning-engine/rollback")] == [{}, {}]
