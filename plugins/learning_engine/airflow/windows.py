"""A DAG run's window, and the runs that it must wait for. Called by the tasks and by web.preflight.

The window comes from the run's params, else from its data interval, else from the schedule at `run_after`. Runs started
by `airflow dags trigger`, by REST with `logical_date: null` or by an asset have no data interval.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from learning_engine.config.sections import Dag
from learning_engine.errors import ConfigError
from learning_engine.records.contracts import Window


class DagRun(Protocol):
    """The fields of Airflow's run record that a window depends on."""

    run_id: str
    run_type: Any
    logical_date: datetime | None
    data_interval_start: datetime | None
    data_interval_end: datetime | None
    run_after: datetime
    conf: dict[str, Any] | None


@dataclass(frozen=True)
class RunWindow:
    """A run's window; `explicit` if it was given as params and must not be widened."""

    window: Window
    explicit: bool


def of_run(run: DagRun, params: Mapping[str, Any], dag: Dag) -> RunWindow:
    """The window of `run`. Raises ConfigError if only one end is given, or the window is invalid or has not ended."""
    start, end = params.get("window_start"), params.get("window_end")
    if start is None and end is None:
        return RunWindow(_scheduled(run, dag), explicit=False)
    if start is None or end is None:
        raise ConfigError(
            f"Expected both params window_start and window_end or neither, found {start!r} and {end!r}: "
            "give both, or leave both empty for the run's own interval."
        )
    try:
        window = Window(_instant(start), _instant(end))
    except Exception as error:
        raise ConfigError(
            f"Expected window_start before window_end, both as ISO 8601 with a time zone "
            f"(2026-11-09T02:00:00Z), found {start!r} and {end!r}: {error}"
        ) from error
    if window.end > datetime.now(UTC):
        raise ConfigError(
            f"Expected a window in the past, found one that ends at {window.end.isoformat()}: feedback that arrives "
            "later would never be read; choose an earlier window_end."
        )
    return RunWindow(window, explicit=True)


def last_complete(moment: datetime, dag: Dag) -> Window:
    """The last interval of the schedule that has ended at `moment`."""
    import pendulum
    from airflow.timetables.interval import CronDataIntervalTimetable

    timetable = CronDataIntervalTimetable(dag.schedule, timezone=pendulum.timezone(dag.timezone))
    interval = timetable.infer_manual_data_interval(run_after=pendulum.instance(moment))
    return Window(interval.start, interval.end)


def earlier_active_runs(run: DagRun, window: Window, dag_id: str, dag: Dag) -> list[str]:
    """The ids of the active runs of this DAG whose windows end at or before this one's start.

    Waiting for exactly these gives concurrent runs the same result as running one after the other. It cannot deadlock,
    because windows are partially ordered by time. A queued run counts only in a backfill: any other queued run may be
    waiting for this one to end (`max_active_runs` is 1).
    """
    earlier = []
    for other in _active_runs(dag_id):
        if other.run_id == run.run_id or (other.state == "queued" and other.run_type != "backfill"):
            continue
        try:
            theirs = of_run(other, other.conf or {}, dag).window
        except ConfigError:
            continue  # that run will fail in its first task
        if theirs.end <= window.start:
            earlier.append(str(other.run_id))
    return sorted(set(earlier))


def _scheduled(run: DagRun, dag: Dag) -> Window:
    start, end = run.data_interval_start, run.data_interval_end
    if start is not None and end is not None and start < end:
        return Window(start, end)
    return last_complete(run.run_after, dag)


def _instant(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


def _active_runs(dag_id: str) -> Iterator[Any]:
    """Queued and running runs that have a logical date, newest first, from the execution API.

    Sends the task SDK's messages directly: its public methods only look back from a run that has a logical date itself.
    """
    from airflow.sdk.execution_time.comms import GetPreviousDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    # Queued first: a run that starts between the two queries is then seen twice instead of missed.
    for state in ("queued", "running"):
        before = datetime.fromisoformat("9000-01-01T00:00:00+00:00")
        while True:
            answer = SUPERVISOR_COMMS.send(GetPreviousDagRun(dag_id=dag_id, logical_date=before, state=state))
            found = getattr(answer, "dag_run", None)
            if found is None or found.logical_date is None:
                break
            yield found
            before = found.logical_date
