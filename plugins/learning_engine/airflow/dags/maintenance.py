"""
### Apply retention and audit the bucket

Every day, `sweep` deletes objects whose retention has expired, but never what the live version, its parents or the
rollback version need to be served. Then, even if `sweep` failed, `audit` reads the ledger and every object, and fails
naming each one that is missing or corrupt. `done` does nothing itself: being the last task, it makes the run
fail if either of them failed.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks


def maintenance(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_maintenance`; `settings` defaults to `config.load()`."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "maintenance"),
        dag_display_name="Learning Engine: maintenance",
        doc_md=__doc__,
        schedule=CronTriggerTimetable("30 4 * * *", timezone=settings.dag.timezone),
        start_date=dag_options.start_date(settings),
        params={
            "dry_run": Param(
                False, type="boolean", title="Dry run", description="List what would be deleted without deleting it."
            )
        },
    ) as dag:
        swept = task(pool=settings.dag.registry_pool)(other_tasks.sweep)()
        # After the sweep, so that the audit does not report objects that the sweep is deleting.
        audited = task(trigger_rule=TriggerRule.ALL_DONE)(other_tasks.audit)()
        swept >> audited
        [swept, audited] >> EmptyOperator(task_id="done")

    return dag
