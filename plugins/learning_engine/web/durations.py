"""The duration of each task of the weekly DAG at its latest success, from Airflow's database. Called by scrape.

The only query of that database: /metrics has no user on whose behalf Airflow's REST API could be called.
"""

from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import func, select


def newest(dag_id: str) -> dict[str, float]:
    """Seconds by task."""
    succeeded = (TaskInstance.dag_id == dag_id, TaskInstance.state == TaskInstanceState.SUCCESS)
    last = (
        select(TaskInstance.task_id, func.max(TaskInstance.end_date).label("end_date"))
        .where(*succeeded)
        .group_by(TaskInstance.task_id)
        .subquery()
    )
    query = (
        select(TaskInstance.task_id, TaskInstance.duration)
        .join(last, (TaskInstance.task_id == last.c.task_id) & (TaskInstance.end_date == last.c.end_date))
        .where(*succeeded)
    )
    with create_session() as session:
        return {task: float(seconds) for task, seconds in session.execute(query) if seconds is not None}
