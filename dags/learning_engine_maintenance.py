"""
### Keep the bucket in order

Every day: `sweep` deletes what its retention has ended for (never the live version, its parents or the rollback
version). Then, also where that failed, `audit` reads the ledger and every object again and fails naming each that is
missing or altered. `done` does nothing: it is the last task, so that the run fails where either of them does.
"""

from datetime import datetime

import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import CronTriggerTimetable, Param, TriggerRule, dag, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks

settings = config.load()


@dag(  # type: ignore[untyped-decorator]
    dag_id=f"{settings.dag.id_prefix}_maintenance",
    dag_display_name="Learning Engine: maintenance",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 4 * * *", timezone=settings.dag.timezone),
    start_date=pendulum.instance(
        datetime.combine(settings.dag.start_date, datetime.min.time()), tz=settings.dag.timezone
    ),
    catchup=False,
    max_active_runs=1,
    default_args=dag_options.default_args(settings),
    params={
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Say what would be deleted; delete nothing."
        )
    },
    tags=list(settings.dag.tags),
)
def learning_engine_maintenance() -> None:
    swept = task(pool=settings.dag.registry_pool)(other_tasks.sweep)()
    # After the sweep: what goes while the audit looks would be missed.
    audited = task(trigger_rule=TriggerRule.ALL_DONE)(other_tasks.audit)()
    swept >> audited
    [swept, audited] >> EmptyOperator(task_id="done")


learning_engine_maintenance()
