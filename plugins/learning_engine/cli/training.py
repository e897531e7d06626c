"""The commands `train`, `fisher` and `status`."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from learning_engine.cli import exit_codes, follow, formatting, options
from learning_engine.cli.client import Client
from learning_engine.cli.output import coloured, grid, print_result, say, write
from learning_engine.cli.progress import summary
from learning_engine.cli.transport import Answer

STATES = {"success": "green", "failed": "red", "running": "yellow"}


def train(
    start: options.Start = None,
    end: options.End = None,
    min_samples: Annotated[int | None, typer.Option(help="Do not train on fewer rows.")] = None,
    ewc_lambda: Annotated[
        float | None,
        typer.Option(parser=options.number, metavar="NUMBER", help="Strength of the EWC penalty; 0 disables EWC."),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(parser=options.number, metavar="NUMBER", help="Passes over the window's rows.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(parser=options.number, metavar="NUMBER", help="Peak learning rate.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A different one starts a new major version.")
    ] = None,
    deploy: Annotated[options.Deploy | None, typer.Option(help="What to do with an accepted version.")] = None,
    force: Annotated[
        options.Force | None,
        typer.Option(help="count: train with any number of rows. quality: deploy even if rejected."),
    ] = None,
    note: options.Note = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Start a training run of the weekly DAG.

    Default window: the last complete week. Omitted settings are as configured.
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
        print_result(accepted, as_json, lambda body: _started(client, body))


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
    """Recalculate a version's Fisher information.

    Default window: the version's own.
    """
    client = Client.of(url)
    body = options.given(version=version, window=options.window(start, end), note=note)
    started_run(client, client.post("/fisher/calculate", body), wait, timeout, as_json)


def status(
    run: options.Run = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow until the run ends; exit with 1 if it failed.")
    ] = False,
    recent: Annotated[int, typer.Option(min=0, max=50, help="Number of ended runs.")] = 5,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Show active and recent training runs.

    With --watch, follow a run with a progress bar until it ends: --run, else the first active run.
    """
    client = Client.of(url)
    answer = client.get("/training/status", {"run_id": run} if run else {"recent": recent})
    if run:
        follow.run_of(answer, run)
    if watch:
        watched = run or next((one["run_id"] for one in answer.body["current"]), None)
        if watched:
            _follow(client, watched, timeout, as_json)
            return
        say("No run is active.")
    print_result(answer, as_json, _status)


def started_run(client: Client, accepted: Answer, wait: bool, timeout: int, as_json: bool) -> None:
    """Print the started run of another DAG than the weekly one, or wait for it. Exits with 1 if it failed."""
    if not wait:
        print_result(accepted, as_json, lambda body: _started(client, body))
        return
    body = accepted.body
    ended = follow.dag_run(client, body["dag_id"], body["run_id"], timeout)
    if as_json:
        write(ended.raw)
    state = ended.body["state"]
    say(f"{body['run_id']}: {state}", style=STATES.get(state, ""))
    if state != "success":
        say(f"Logs: {client.page(body['airflow'])}")
        raise typer.Exit(exit_codes.FAILED)


def _started(client: Client, body: Any) -> Iterator[Any]:
    """A run that Airflow has accepted."""
    where = client.page(body["airflow"])
    yield grid((("run", body["run_id"]), ("DAG", body["dag_id"]), ("state", body["state"]), ("in Airflow", where)))


def _follow(client: Client, run_id: str, timeout: int, as_json: bool) -> None:
    """Follow a weekly run until it ends. Exits with 1 if it failed."""
    answer = follow.training(client, run_id, timeout)
    print_result(answer, as_json, _status)
    run = follow.run_of(answer, run_id)
    if run["state"] != "success":
        say(f"The run {run_id} has {run['state']}. Logs: {client.page(run['airflow'])}", style="red")
        raise typer.Exit(exit_codes.FAILED)


def _status(body: Any) -> Iterator[Any]:
    runs = [*body["current"], *body["recent"]]
    if not runs:
        yield "No runs yet."
    for number, run in enumerate(runs):
        if number:
            yield ""
        yield _run(run)


def _run(run: Any) -> Any:
    """One run as a block, since its id is too long for a column."""
    failed = [task["task"] for task in run["tasks"] if task["state"] == "failed"]
    return grid(
        (
            ("run", run["run_id"]),
            ("state", coloured(run["state"], STATES)),
            ("task", run["task"] if run["state"] == "running" else None),
            ("training", summary(run["progress"]) if run["progress"] else None),
            ("failed at", ", ".join(failed) or None),
            ("window", formatting.interval(run["window"]) if run["window"] else None),
            ("version", run["version"]),
            ("verdict", run["verdict"]),
            ("started by", run["triggered_by"]),
            ("note", run["note"]),
            ("started", f"{formatting.when(run['started_at'])} UTC" if run["started_at"] else None),
            ("ended", f"{formatting.when(run['ended_at'])} UTC" if run["ended_at"] else None),
        )
    )
