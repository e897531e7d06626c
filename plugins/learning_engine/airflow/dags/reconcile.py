"""
### Keep the model server's replicas at what is live

Every few minutes (`dag.reconcile_minutes`): each replica proves the live adapter, and is given it back where it has
restarted without it; likewise the one that a rollback returns to. With `watch.max_rise` set, thumbs on the live version
are then held against those on the version before; where users like it less, it is rolled back.

| task | does |
|---|---|
| `reconcile` | every replica proves the live adapter, and gets it back where it is missing; names one that fails |
| `watch` | skips the rest unless thumbs down have risen beyond the bound; its XCom `verdict` says why |
| `roll_back` | the version before, proven on every replica; skipped where another one than was judged is live by now |
| `verify` | proof, ledger, pointer, drain, unload |
"""

from datetime import timedelta

from airflow.sdk import DAG, DeltaTriggerTimetable, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks, weekly_tasks


def reconcile(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_reconcile`; `settings` as `config.load` reads them where None are given."""
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
