"""
### Keep every replica serving the live version

Every few minutes (`dag.reconcile_minutes`) each replica is probed for the live adapter and for the rollback target.
A replica that restarted and lost them loads them again. If `watch.max_rise` is set, the votes on the live
version are then compared with those on the previous version; if users like it less, it is rolled back.

| task | does |
|---|---|
| `reconcile` | probes the live adapter on every replica and loads it if missing; its error names a failed replica |
| `watch` | skips the rest unless thumbs down have risen beyond the bound; its XCom `verdict` says why |
| `roll_back` | loads the previous version on every replica; skipped if the judged version is no longer live |
| `verify` | probes again, then updates ledger and pointer, drains and unloads |
"""

from datetime import timedelta

from airflow.sdk import DAG, DeltaTriggerTimetable, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks, weekly_tasks


def reconcile(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_reconcile`; `settings` defaults to `config.load()`."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "reconcile"),
        dag_display_name="Learning Engine: reconcile",
        doc_md=__doc__,
        schedule=DeltaTriggerTimetable(timedelta(minutes=settings.dag.reconcile_minutes)),
        start_date=dag_options.start_date(settings),
    ) as dag:
        serving = dag_options.serving(settings)

        reconciled = task(**serving)(other_tasks.reconcile)()
        watched = task.short_circuit(other_tasks.watch)()
        deployment = task(**serving)(other_tasks.roll_back)()

        reconciled >> watched >> deployment
        task(**serving)(weekly_tasks.verify)(deployment)

    return dag
