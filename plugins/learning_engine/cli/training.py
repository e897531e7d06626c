"""`train`, `fisher` and `status`: runs of the weekly DAG, and of the one that measures."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from learning_engine.cli import codes, following, options, words
from learning_engine.cli.client import Client
from learning_engine.cli.output import coloured, give, grid, say, write
from learning_engine.cli.progress import told
from learning_engine.cli.wire import Answer

STATES = {"success": "green", "failed": "red", "running": "yellow"}


def train(
    start: options.Start = None,
    end: options.End = None,
    min_samples: Annotated[int | None, typer.Option(help="Train nothing on fewer rows than this.")] = None,
    ewc_lambda: Annotated[
        float | None,
        typer.Option(parser=options.number, metavar="NUMBER", help="How firmly earlier lessons are held; 0: no EWC."),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(parser=options.number, metavar="NUMBER", help="Passes over the window's rows.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(parser=options.number, metavar="NUMBER", help="Peak learning rate.")
    ] = None,
    base_model: Annotated[str | None, typer.Option(metavar="NAME", help="Another one: a new major version.")] = None,
    deploy: Annotated[options.Deploy | None, typer.Option(help="What happens to what the gate accepts.")] = None,
    force: Annotated[
        options.Force | None, typer.Option(help="count: train on few rows. quality: deploy what the gate rejects.")
    ] = None,
    note: options.Note = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Start a training: a run of the weekly DAG.

    By default over the last complete week; what is left out is as configured.
    """
    client = Client.of(url)
    body = options.given(
        window=options.window(start, end),
        min_samples=min_samples,
        ewc_lambda=ewc_lambda,
        epochs=epochs,
        learning_rate=learning_rate,
        base_model=base_model,
        deploy=deploy,
        force=force,
        note=note,
    )
    accepted = client.post("/train", body)
    if wait:
        _follow(client, accepted.body["run_id"], timeout, as_json)
    else:
        give(accepted, as_json, lambda body: _started(client, body))


def fisher(
    version: options.Version,
    start: options.Start = None,
    end: options.End = None,
    note: options.Note = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Measure a version's Fisher information anew.

    By default on the version's own window.
    """
    client = Client.of(url)
    body = options.given(version=version, window=options.window(start, end), note=note)
    started_run(client, client.post("/fisher/calculate", body), wait, timeout, as_json)


def status(
    run: options.Run = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until the run has ended; 1 where it failed.")] = False,
    recent: Annotated[int, typer.Option(min=0, max=50, help="How many runs that have ended.")] = 5,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Trainings under way, and the last that ended.

    With --watch a live bar, until the run has ended: the one of --run, else the one whose turn it is.
    """
    client = Client.of(url)
    answer = client.get("/training/status", {"run_id": run} if run else {"recent": recent})
    if run:
        following.run_of(answer, run)
    if watch:
        watched = run or next((one["run_id"] for one in answer.body["current"]), None)
        if watched:
            _follow(client, watched, timeout, as_json)
            return
        say("No run is active.")
    give(answer, as_json, _status)


def started_run(client: Client, accepted: Answer, wait: bool, timeout: int, as_json: bool) -> None:
    """A run of a DAG other than the weekly one: told, or waited for. Exits with 1 where it fails."""
    if not wait:
        give(accepted, as_json, lambda body: _started(client, body))
        return
    body = accepted.body
    ended = following.dag_run(client, body["dag_id"], body["run_id"], timeout)
    if as_json:
        write(ended.raw)
    state = ended.body["state"]
    say(f"{body['run_id']}: {state}", style=STATES.get(state, ""))
    if state != "success":
        say(f"Its logs: {client.page(body['airflow'])}")
        raise typer.Exit(codes.FAILED)


def _started(client: Client, body: Any) -> Iterator[Any]:
    """A run that Airflow has taken."""
    where = client.page(body["airflow"])
    yield grid((("run", body["run_id"]), ("DAG", body["dag_id"]), ("state", body["state"]), ("in Airflow", where)))


def _follow(client: Client, run_id: str, timeout: int, as_json: bool) -> None:
    """A weekly run until it has ended. Exits with 1 where it failed."""
    answer = following.training(client, run_id, timeout)
    give(answer, as_json, _status)
    run = following.run_of(answer, run_id)
    if run["state"] != "success":
        say(f"The run {run_id} has {run['state']}. Its logs: {client.page(run['airflow'])}", style="red")
        raise typer.Exit(codes.FAILED)


def _status(body: Any) -> Iterator[Any]:
    runs = [*body["current"], *body["recent"]]
    if not runs:
        yield "No run yet."
    for number, run in enumerate(runs):
        if number:
            yield ""
        yield _run(run)


def _run(run: Any) -> Any:
    """One run as a block: its id is too long for a column."""
    failed = [task["task"] for task in run["tasks"] if task["state"] == "failed"]
    return grid(
        (
            ("run", run["run_id"]),
            ("state", coloured(run["state"], STATES)),
            ("task", run["task"] if run["state"] == "running" else None),
            ("training", told(run["progress"]) if run["progress"] else None),
            ("failed at", ", ".join(failed) or None),
            ("window", words.interval(run["window"]) if run["window"] else None),
            ("version", run["version"]),
            ("verdict", run["verdict"]),
            ("by", run["triggered_by"]),
            ("note", run["note"]),
            ("started", f"{words.when(run['started_at'])} UTC" if run["started_at"] else None),
            ("ended", f"{words.when(run['ended_at'])} UTC" if run["ended_at"] else None),
        )
    )
