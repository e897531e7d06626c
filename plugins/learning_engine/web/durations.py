"""How long each task of the weekly DAG took when it last succeeded, from Airflow's own database.

The only query of it: /metrics has no user in whose name Airflow's REST API could be asked.
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
