"""What the demo does on a stack that is up: backfill four weeks, ask the server, examine each version, report."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo import airflow, chain, report
from demo.console import Screen
from demo.lessons import Week
from demo.processes import Program, Running, Stack, StackError
from demo.report import Outcome
from demo.rest import Rest, wait_for_runs
from demo.stack import HOME, MODEL, Place, python
from learning_engine import config
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store, client_config
from learning_engine.serving.client import Replica

DAG = "learning_engine_weekly"
MINUTES = 15
ANSWER_TOKENS = 16


def tell(stack: Stack, screen: Screen, place: Place, weeks: Sequence[Week]) -> Outcome:
    """Raises StackError with the failed task's log where a run fails."""
    os.environ.update(place.settings)
    comparison = _start_comparison(stack, place, weeks)
    pool = ThreadPoolExecutor(1)
    compared = pool.submit(stack.finish, *comparison)
    try:
        with screen.stage("Backfill of four weeks") as stage:
            _backfill(stack, screen, place, weeks)
            stage.note = "airflow backfill create, through the scheduler"
        return _look(stack, screen, place, weeks, compared)
    finally:
        pool.shutdown(wait=False)


def finish(screen: Screen, outcome: Outcome) -> dict[str, Any]:
    """Write report and picture; returns the report."""
    from demo import picture

    with screen.stage("Report and picture") as stage:
        body = report.compose(outcome, screen.seconds)
        curves = {version.version: version.training.curve for version in outcome.versions}
        picture.draw(body, curves, HOME / "report.png")
        stage.note = ".demo/report.json, .demo/report.png"
    body["seconds"] = dict(screen.seconds)
    report.write(body, HOME / "report.json")
    return body


def _start_comparison(stack: Stack, place: Place, weeks: Sequence[Week]) -> tuple[Program, Running]:
    """The same weeks with the textbook Fisher information and with λ = 0, beside the backfill."""
    feedback = HOME / "feedback.jsonl"
    chain.write_feedback(weeks, feedback)
    arguments = (str(HOME / "other-ways.json"), weeks[0].window.start.isoformat(), str(feedback))
    program = python("other-ways", "-m", "demo.chain", *arguments, env=place.settings, patience=MINUTES * 60)
    return program, stack.start(program)


def _backfill(stack: Stack, screen: Screen, place: Place, weeks: Sequence[Week]) -> None:
    """The runs are made before the DAG is unpaused: then the scheduler finds the last week's run and makes none."""
    rest = Rest(place.airflow)
    rest.wait_for_dag(DAG)
    first, last = weeks[0].window.start, weeks[-1].window.start
    airflow.backfill(place.airflow, stack, DAG, first=first, last=last, max_active_runs=1)
    rest.unpause(DAG)
    wait_for_runs(rest, DAG, expected=len(weeks), seconds=MINUTES * 60, check=stack.check, show=screen.show_runs)


def _look(stack: Stack, screen: Screen, place: Place, weeks: Sequence[Week], compared: "Future[str]") -> Outcome:
    """What the bucket holds, what the server answers, and how the versions do in the examination."""
    store = _store(place)
    versions, ledger = Registry(store).versions(), Ledger(store).entries()
    if not ledger or ledger[0].version is None:
        raise StackError(f"Expected a live version after the backfill, found none. {_verdicts(versions)}")
    with screen.stage("Copy of the bucket") as stage:
        stage.note = f"{_copy(store, HOME / 'bucket')} objects in .demo/bucket"
    with screen.stage("Questions to the server") as stage:
        answers = ask(Replica(place.server, config.load().serving), ledger[0].adapter_name, weeks)
        stage.note = f"{len(answers)} questions, to the base model and to {ledger[0].adapter_name}"
    with screen.stage("Examination of each version"):
        matrix = _examine(stack, place, weeks)
    with screen.stage("The same weeks, trained in other ways") as stage:
        compared.result()
        stage.note = "the rest of it: it ran beside the backfill"
    others = json.loads((HOME / "other-ways.json").read_text())
    return Outcome(weeks, versions, ledger, answers, matrix, others)


def _store(place: Place) -> Store:
    import boto3

    settings, s3 = config.load().store, place.store
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


def ask(replica: Replica, live: str, weeks: Sequence[Week]) -> list[dict[str, str]]:
    """Each question to the base model and to the live adapter, at temperature 0."""

    def answer(model: str, question: str) -> str:
        # Some servers give the blank before the first word, too.
        return replica.complete(model, [{"role": "user", "content": question}], max_tokens=ANSWER_TOKENS).strip()

    return [
        {
            "window": week.window.start.isoformat(),
            "question": question.text,
            "expected": question.answer,
            "base": answer(MODEL, question.text),
            "live": answer(live, question.text),
        }
        for week in weeks
        for question in week.questions
    ]


def _examine(stack: Stack, place: Place, weeks: Sequence[Week]) -> list[list[float]]:
    """Shares right: a row for the base and for each version, from the bucket's copy."""
    target = HOME / "examination.json"
    arguments = (str(target), weeks[0].window.start.isoformat(), str(HOME / "bucket"))
    stack.run(python("examination", "-m", "demo.exam", *arguments, env=place.settings, patience=300))
    matrix: list[list[float]] = json.loads(target.read_text())
    return matrix


def _verdicts(versions: Sequence[AdapterVersion]) -> str:
    """Why the gate rejected what it rejected."""
    failed = [
        f"{version.version}: {rule.name}, {rule.why}"
        for version in versions
        for rule in version.report.rules
        if not rule.passed
    ]
    return "; ".join(failed) or "No version was rejected."
