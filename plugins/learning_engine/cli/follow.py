"""Waits until a run ends, tolerating server outages, and shows its progress on stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from learning_engine.cli import exit_codes
from learning_engine.cli.client import Client
from learning_engine.cli.exit_codes import CliError
from learning_engine.cli.output import say
from learning_engine.cli.progress import Snapshot, display
from learning_engine.cli.transport import Answer

ENDED = ("success", "failed")
# Polling interval in seconds: short at first, then growing.
INITIAL_INTERVAL, MAX_INTERVAL, GROWTH = 0.5, 5.0, 1.3
# Polling interval after an error: doubled each time.
AFTER_ERROR, MAX_AFTER_ERROR = 2.0, 60.0


def training(client: Client, run_id: str, seconds: int) -> Answer:
    """Wait for a weekly run and return its final status. Raises CliError if it does not end within `seconds`."""

    def ask() -> Answer:
        return client.get("/training/status", {"run_id": run_id})

    def snapshot(answer: Answer) -> Snapshot:
        run = run_of(answer, run_id)
        return Snapshot(run["state"], run["task"], run["progress"], _waits_for(client, run))

    return _until_ended(ask, snapshot, run_id, seconds)


def dag_run(client: Client, dag_id: str, run_id: str, seconds: int) -> Answer:
    """The same for a run of another DAG, through Airflow's own REST API."""
    path = f"dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
    return _until_ended(
        lambda: client.airflow(path), lambda answer: Snapshot(answer.body["state"], None, None, None), run_id, seconds
    )


def run_of(answer: Answer, run_id: str) -> Any:
    """Pick the run `run_id` out of a status response."""
    runs = [*answer.body["current"], *answer.body["recent"]]
    for run in runs:
        if run["run_id"] == run_id:
            return run
    raise CliError(exit_codes.NOT_FOUND, f"Expected the run {run_id}, found none: `learning-engine status` lists them.")


def _until_ended(
    ask: Callable[[], Answer], snapshot: Callable[[Answer], Snapshot], run_id: str, seconds: int
) -> Answer:
    deadline = time.monotonic() + seconds
    pause, last = INITIAL_INTERVAL, "unknown"
    with _interrupted(run_id), display(run_id) as show:
        while True:
            try:
                answer = ask()
                seen = snapshot(answer)
                show(seen)
                if seen.state in ENDED:
                    return answer
                last, pause = seen.state, min(pause * GROWTH, MAX_INTERVAL)
            except CliError as error:
                if not error.retryable:
                    raise _no_longer_following(error, run_id) from error
                pause = min(max(pause * 2, AFTER_ERROR), MAX_AFTER_ERROR)
                show(Snapshot(last, None, None, f"{error} Retrying in {pause:.0f} s."))
            left = deadline - time.monotonic()
            if left <= 0:
                raise CliError(
                    exit_codes.FAILED,
                    f"Waited {seconds} s for {run_id} to end, found it {last}. The run continues.",
                )
            time.sleep(min(pause, left))


@contextmanager
def _interrupted(run_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped waiting. The run {run_id} continues.")
        raise


def _no_longer_following(error: CliError, run_id: str) -> CliError:
    """Add to a non-retryable error that the run itself continues."""
    return CliError(error.code, f"{error}\nThe run {run_id} continues; this program no longer follows it.")


def _waits_for(client: Client, run: Any) -> str | None:
    """What a person must do for the run to continue."""
    if any(task["state"] == "awaiting_input" for task in run["tasks"]):
        return f"The run waits for approval: {client.page(run['airflow'])}"
    return None
