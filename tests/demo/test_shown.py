"""The demo's output: stages and runs as plain lines without a terminal, the tables, the report, the picture."""

import io
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from demo import picture, report
from demo.console import Screen
from demo.report import Outcome
from demo.rest import RunState, TaskState
from demo.worlds import TOY
from learning_engine.records.contracts import (
    AdapterVersion,
    Dataset,
    Deployment,
    FisherRecord,
    LoraShape,
    RunInfo,
    TrainingMetrics,
)
from learning_engine.records.report import Report, Rule

FIRST = datetime(2026, 10, 19, 2, tzinfo=UTC)
WEEKS = TOY.weeks(FIRST)
RUN = RunInfo("learning_engine_weekly", "backfill__1", "backfill")


@pytest.fixture
def plain():
    text = io.StringIO()
    return Screen(Console(file=text, highlight=False)), text


def version(number: int) -> AdapterVersion:
    name, parent, window = f"v1.{number}", f"v1.{number - 1}" if number else None, WEEKS[number].window
    shape = LoraShape(16, 32.0, ("q_proj",))
    fisher = FisherRecord(parent or "base", "diagonal", "sampled", "per_supervised_token", None, None, 0, 0)
    curve = [(5, 0.9, 0.0), (10, 0.3, 0.05 * number)]
    metrics = TrainingMetrics(
        task_loss=0.3, ewc_loss=0.1, steps=10, examples=300, dropped={}, tokens=1, supervised_tokens=1, seconds=1.0,
        tokens_per_second=1.0, peak_memory_bytes=1, gpu_utilisation=None, device="cpu", precision="fp32", curve=curve,
    )  # fmt: skip
    judged = Report(
        run_key="key", heldout_rows=30, loss=0.1, loss_parent=0.9, loss_base=1.1, gain_lower_bound=0.5, scores={},
        best={}, base_scores={}, retained={"v1.0": 0.66} if number else {}, drift_parent=0.13, drift_base=0.2,
        margin=1.0, margin_parent=0.1, rules=[Rule("learned", 0.5, ">=", 0.0, number != 2, "because")],
        accepted=number != 2, probes=None,
    )  # fmt: skip
    dataset = Dataset(
        run_key="key", parent=parent, window=window, uri="s3://b/d", sha256="0", rows=320, thumbs_up=300,
        thumbs_down=20, users=40, conversations=320, read=328,
    )  # fmt: skip
    return AdapterVersion(
        version=name, parent=parent, window=window, run_key="key", base_model="base", base_revision="1", lora=shape,
        uri="s3://b/a", sha256="0", size=1, accepted=number != 2, dataset=dataset, fisher=fisher, ewc_lambda=100.0,
        training=metrics, report=judged, heldout_uri=None, config={}, run=RUN, created_at=FIRST,
    )  # fmt: skip


@pytest.fixture
def body():
    live = Deployment("v1.3", "v1.3-0", None, None, [], True, "deploy", "the gate", RUN, FIRST)
    answers = [
        {
            "window": week.window.start.isoformat(),
            "question": question.text,
            "expected": question.answer,
            "base": "Ada grows figs.",
            "live": question.answer if week is WEEKS[3] else "Ada grows figs.",
            "base_right": False,
            "live_right": week is WEEKS[3],
        }
        for week in WEEKS
        for question in week.questions
    ]
    matrix = [[1.0] + [1.0 if row == column else 0.5 for column in range(1, 5)] for row in range(5)]
    others = {
        name: [[1.0] + [1.0 if row == column else share for column in range(1, 5)] for row in range(5)]
        for name, share in (("diagonal", 0.3), ("without", 0.1))
    }
    outcome = Outcome(WEEKS, [version(number) for number in range(4)], [live], answers, matrix, others)
    return report.compose(outcome, {"Airflow": 3.0})


def test_without_a_terminal_each_stage_is_a_line_when_it_has_ended(plain):
    screen, text = plain
    with screen:
        with screen.stage("Quick") as stage:
            stage.note = "and good"
        with pytest.raises(ValueError, match="no"), screen.stage("Broken"):
            raise ValueError("no")
    first, second = text.getvalue().splitlines()
    assert first.startswith("✓ Quick")
    assert first.endswith("and good")
    assert second.startswith("✗ Broken")
    assert screen.seconds.keys() == {"Quick", "Broken"}


def test_without_a_terminal_each_task_is_printed_once(plain):
    screen, text = plain
    tasks = (TaskState("extract", "success", 1.5, 1), TaskState("train", "running", None, 1))
    for _ in range(2):
        screen.show_runs([RunState("a", "running", FIRST, FIRST + timedelta(days=7), tasks)])
    (line,) = text.getvalue().splitlines()
    assert line.split() == ["19", "Oct", "–", "26", "Oct", "extract", "success", "1.5", "s"]


def test_on_a_terminal_stages_and_runs_are_drawn_live():
    text = io.StringIO()
    screen = Screen(Console(file=text, force_terminal=True, width=100, _environ={"TERM": "xterm"}))
    with screen, screen.stage("Backfill"):
        tasks = (TaskState("extract", "success", 1.5, 1), TaskState("train", "running", None, 1))
        screen.show_runs([RunState("a", "running", FIRST, FIRST + timedelta(days=7), tasks)])
    assert "Backfill" in text.getvalue()
    assert "train" in text.getvalue()


def test_the_report_has_its_documented_fields(body, tmp_path: Path):
    report.write(body, tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["seconds"] == {"Airflow": 3.0}
    assert [entry["version"] for entry in read["versions"]] == ["v1.0", "v1.1", "v1.2", "v1.3"]
    assert [entry["parent"] for entry in read["versions"]] == [None, "v1.0", "v1.1", "v1.2"]
    assert [entry["deployed"] for entry in read["versions"]] == [False, False, False, True]
    assert read["versions"][0]["window"] == {
        "start": "2026-10-19T02:00:00+00:00",
        "end": "2026-10-26T02:00:00+00:00",
    }
    assert read["versions"][0]["rows"] == 320
    assert read["versions"][0].keys() == {"version", "parent", "window", "rows", "report", "deployed"}
    assert read["live"] == "v1.3"
    assert len(read["answers"]) == 40
    shares = [read["forgetting"][f"kept_mean{way}"] for way in ("", "_diagonal", "_without")]
    assert shares == pytest.approx([0.5, 0.3, 0.1])


def test_the_tables_show_rejections_and_right_answers(body, plain):
    screen, text = plain
    report.show(screen, body)
    shown = text.getvalue()
    assert "rejected: learned" in shown
    assert "0.90 → 0.10" in shown
    assert "v1.3 answers 10 of 10 right, the base 0." in shown
    assert "50% are still right after the last week (EWC with the diagonal, λ = 100)." in shown
    assert "By comparison: with the textbook diagonal 30%, without EWC 10%." in shown
    assert "the base answers 100% right, v1.3 100%." in shown


def test_without_another_way_of_training_nothing_is_compared(body, plain, tmp_path: Path):
    screen, text = plain
    for key in [key for key in body["forgetting"] if key.endswith(("_diagonal", "_without"))]:
        del body["forgetting"][key]
    report.show(screen, body)
    assert "By comparison" not in text.getvalue()
    picture.draw(body, {f"v1.{number}": version(number).training.curve for number in range(4)}, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_the_picture_is_drawn(body, tmp_path: Path):
    curves = {f"v1.{number}": version(number).training.curve for number in range(4)}
    picture.draw(body, curves, tmp_path / "report.png")
    data = (tmp_path / "report.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > height > 1000
