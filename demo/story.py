"""Run the demo on a running stack: backfill four weeks, ask the server, examine each version, report."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo import airflow, report
from demo.console import Screen
from demo.exam import ANSWER_TOKENS
from demo.lessons import Week, write_rows
from demo.processes import Stack, StackError
from demo.report import Outcome
from demo.rest import Rest, wait_for_runs
from demo.stack import HOME, RunningStack, python
from learning_engine import config
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store, client_config
from learning_engine.serving.client import Replica

DAG = "learning_engine_weekly"


def run(stack: Stack, screen: Screen, running: RunningStack, weeks: Sequence[Week]) -> Outcome:
    """Run the whole story. Raises StackError with the failed task's log if a run fails."""
    os.environ.update(running.settings)
    pool = ThreadPoolExecutor(1)
    compared = _start_comparison(stack, running, weeks, pool)
    try:
        with screen.stage("Backfill of four weeks") as stage:
            _backfill(stack, screen, running, weeks)
            stage.note = "airflow backfill create, through the scheduler"
        return _collect(stack, screen, running, weeks, compared)
    finally:
        pool.shutdown(wait=False)


def finish(screen: Screen, outcome: Outcome) -> dict[str, Any]:
    """Write report and picture; return the report."""
    from demo import picture

    with screen.stage("Report and picture") as stage:
        body = report.compose(outcome, screen.seconds)
        curves = {version.version: version.training.curve for version in outcome.versions}
        picture.draw(body, curves, HOME / "report.png")
        stage.note = ".demo/report.json, .demo/report.png"
    body["seconds"] = dict(screen.seconds)
    report.write(body, HOME / "report.json")
    return body


def _start_comparison(
    stack: Stack, running: RunningStack, weeks: Sequence[Week], pool: ThreadPoolExecutor
) -> "Future[str] | None":
    """Start training the same weeks in the world's other ways, if it has any, during the backfill."""
    world = running.world
    if not world.other_ways:
        return None
    feedback = HOME / "feedback.jsonl"
    write_rows([row for week in weeks for row in week.rows], feedback)
    arguments = (str(HOME / "other-ways.json"), world.model, weeks[0].window.start.isoformat(), str(feedback))
    program = python("other-ways", "-m", "demo.chain", *arguments, env=running.settings, patience=world.minutes * 60)
    return pool.submit(stack.finish, program, stack.start(program))


def _backfill(stack: Stack, screen: Screen, running: RunningStack, weeks: Sequence[Week]) -> None:
    """Create the runs before unpausing the DAG, so that the scheduler does not create a run for the last week."""
    rest = Rest(running.airflow)
    rest.wait_for_dag(DAG)
    first, last = weeks[0].window.start, weeks[-1].window.start
    airflow.backfill(running.airflow, stack, DAG, first=first, last=last, max_active_runs=1)
    rest.unpause(DAG)
    seconds = running.world.minutes * 60
    wait_for_runs(rest, DAG, expected=len(weeks), seconds=seconds, check=stack.check, show=screen.show_runs)


def _collect(
    stack: Stack, screen: Screen, running: RunningStack, weeks: Sequence[Week], compared: "Future[str] | None"
) -> Outcome:
    """The content of the bucket, the server's answers, and the exam results of the versions."""
    store = _store(running)
    versions, ledger = Registry(store).versions(), Ledger(store).entries()
    if not ledger or ledger[0].version is None:
        raise StackError(f"Expected a live version after the backfill, found none. {_rejections(versions)}")
    with screen.stage("Copy of the bucket") as stage:
        stage.note = f"{_copy(store, HOME / 'bucket')} objects in .demo/bucket"
    with screen.stage("Questions to the server") as stage:
        replica = Replica(running.server, config.load().serving)
        answers = ask(replica, running.world.name, ledger[0].adapter_name, weeks)
        stage.note = f"{len(answers)} questions, to the base model and to {ledger[0].adapter_name}"
    with screen.stage("Exam of each version"):
        matrix = _examine(stack, running, weeks)
    others = {} if compared is None else _wait_for_comparison(screen, compared)
    return Outcome(weeks, versions, ledger, answers, matrix, others)


def _wait_for_comparison(screen: Screen, compared: "Future[str]") -> dict[str, Any]:
    with screen.stage("The same weeks, trained in other ways") as stage:
        compared.result()
        stage.note = "the remaining time: it started with the backfill"
    matrices: dict[str, Any] = json.loads((HOME / "other-ways.json").read_text())
    return matrices


def _store(running: RunningStack) -> Store:
    import boto3

    settings, s3 = config.load().store, running.store
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=client_config(settings),
    )
    return Store(client, settings.bucket, settings.prefix)


def _copy(store: Store, target: Path) -> int:
    count = 0
    for item in store.list():
        path = target / item.key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(item.key, path)
        count += 1
    return count


def ask(replica: Replica, base: str, live: str, weeks: Sequence[Week]) -> list[dict[str, Any]]:
    """Ask the models `base` and `live` each question, at temperature 0, and note which answers are right."""

    def answer(model: str, question: str) -> str:
        # Some servers also return the space before the first word.
        return replica.complete(model, [{"role": "user", "content": question}], max_tokens=ANSWER_TOKENS).strip()

    asked: list[dict[str, Any]] = []
    for week in weeks:
        for question in week.questions:
            given = {"base": answer(base, question.text), "live": answer(live, question.text)}
            right = {f"{who}_right": question.right(text) for who, text in given.items()}
            start = week.window.start.isoformat()
            asked.append({"window": start, "question": question.text, "expected": question.answer, **given, **right})
    return asked


def _examine(stack: Stack, running: RunningStack, weeks: Sequence[Week]) -> list[list[float]]:
    """Shares of right answers: a row for the base and for each version, from the copy of the bucket."""
    target = HOME / "examination.json"
    arguments = (str(target), running.world.model, weeks[0].window.start.isoformat(), str(HOME / "bucket"))
    stack.run(python("examination", "-m", "demo.exam", *arguments, env=running.settings, patience=1800))
    matrix: list[list[float]] = json.loads(target.read_text())
    return matrix


def _rejections(versions: Sequence[AdapterVersion]) -> str:
    """Why the gate rejected each rejected version."""
    failed = [
        f"{version.version}: {rule.name}, {rule.why}"
        for version in versions
        for rule in version.report.rules
        if not rule.passed
    ]
    return "; ".join(failed) or "No version was rejected."
