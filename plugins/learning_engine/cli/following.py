"""Waits for a run to end, on a server that may be away for a while; shows on stderr how far it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from learning_engine.cli import codes
from learning_engine.cli.client import Client
from learning_engine.cli.codes import CliError
from learning_engine.cli.output import say
from learning_engine.cli.progress import Look, shown
from learning_engine.cli.wire import Answer

ENDED = ("success", "failed")
# Seconds between two questions: soon at first, then seldom.
FIRST, LONGEST, GROWTH = 0.5, 5.0, 1.3
# After an error: doubled from one to the next.
AFTER_ERROR, LONGEST_AFTER_ERROR = 2.0, 60.0


def training(client: Client, run_id: str, seconds: int) -> Answer:
    """The last status of a weekly run, once it has ended. Raises CliError where it does not within `seconds`."""

    def ask() -> Answer:
        return client.get("/training/status", {"run_id": run_id})

    def look(answer: Answer) -> Look:
        run = run_of(answer, run_id)
        return Look(run["state"], run["task"], run["progress"], _waits_for(client, run))

    return _until_ended(ask, look, run_id, seconds)


def dag_run(client: Client, dag_id: str, run_id: str, seconds: int) -> Answer:
    """The same for a run of another DAG, as Airflow's own REST API tells it."""
    path = f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
    return _until_ended(
        lambda: client.airflow(path), lambda answer: Look(answer.body["state"], None, None, None), run_id, seconds
    )


def run_of(answer: Answer, run_id: str) -> Any:
    """The run in a status that was asked for it alone."""
    runs = [*answer.body["current"], *answer.body["recent"]]
    for run in runs:
        if run["run_id"] == run_id:
            return run
    raise CliError(codes.NOT_FOUND, f"Expected the run {run_id}, found none: `learning-engine status` lists them.")


def _until_ended(ask: Callable[[], Answer], look: Callable[[Answer], Look], run_id: str, seconds: int) -> Answer:
    deadline = time.monotonic() + seconds
    pause, last = FIRST, "unknown"
    with _interrupted(run_id), shown(run_id) as show:
        while True:
            try:
                answer = ask()
                seen = look(answer)
                show(seen)
                if seen.state in ENDED:
                    return answer
                last, pause = seen.state, min(pause * GROWTH, LONGEST)
            except CliError as error:
                if not error.retryable:
                    raise _lost(error, run_id) from error
                pause = min(max(pause * 2, AFTER_ERROR), LONGEST_AFTER_ERROR)
                show(Look(last, None, None, f"{error} Asking again in {pause:.0f} s."))
            left = deadline - time.monotonic()
            if left <= 0:
                raise CliError(
                    codes.FAILED,
                    f"Waited {seconds} s for the end of {run_id}, found it {last}. The run goes on.",
                )
            time.sleep(min(pause, left))


@contextmanager
def _interrupted(run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"Not waiting any longer. The run {run_id} goes on.")
        raise


def _lost(error: CliError, run_id: str) -> CliError:
    """The login that expired while waiting, and the like: what becomes of the run."""
    return CliError(error.code, f"{error}\nThe run {run_id} goes on; this program no longer sees how.")


def _waits_for(client: Client, run: Any) -> str | None:
    """What a person has to do, for the run to go on."""
    if any(task["state"] == "awaiting_input" for task in run["tasks"]):
        return f"A person is asked whether to deploy: {client.page(run['airflow'])}"
    return None
