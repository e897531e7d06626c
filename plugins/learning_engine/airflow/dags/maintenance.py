"""
### Keep the bucket in order

Every day: `sweep` deletes what its retention has ended for (never the live version, its parents or the rollback
version). Then, also where that failed, `audit` reads the ledger and every object again and fails naming each that is
missing or altered. `done` does nothing: it is the last task, so that the run fails where either of them does.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks


def maintenance(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_maintenance`; `settings` as `config.load` reads them where None are given."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "maintenance"),
        dag_display_name="Learning Engine: maintenance",
        doc_md=__doc__,
        schedule=CronTriggerTimetable("30 4 * * *", timezone=settings.dag.timezone),
        start_date=dag_options.start_date(settings),
        params={
            "dry_run": Param(
                False, type="boolean", title="Dry run", description="Say what would be deleted; delete nothing."
            )
        },
    ) as dag:
        swept = task(pool=settings.dag.registry_pool)(other_tasks.sweep)()
        # After the sweep: what goes while the audit looks would be missed.
        audited = task(trigger_rule=TriggerRule.ALL_DONE)(other_tasks.audit)()
        swept >> audited
        [swept, audited] >> EmptyOperator(task_id="done")

    return dag
