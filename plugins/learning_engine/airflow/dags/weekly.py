"""
### Learn from one week of thumbs

Reads the feedback of one window, trains the next LoRA adapter under an EWC penalty that protects earlier lessons,
evaluates it, publishes it as a version and swaps it into the model server.

| task | does |
|---|---|
| `turn` | waits while a run with an earlier window is active |
| `extract` | stores the window's feedback as a snapshot in the bucket |
| `enough` | skips the rest if there is too little feedback; its XCom `verdict` has the figures |
| `fisher` | the same after tokenization; measures which weights the parent's knowledge depends on, once per version |
| `train` | trains the candidate |
| `evaluate` | measures learning, retention and drift, finds probes, applies the gate's rules |
| `publish` | publishes the immutable version with its verdict |
| `accepted` | skips the deployment if the gate rejected the version |
| `approve` | waits for a person if approval is required |
| `deploy` | copies, loads and probes the adapter on every replica |
| `verify` | probes again, then updates ledger and pointer, drains and unloads |

**Backfill** past weeks with `airflow backfill create --dag-id learning_engine_weekly --from-date … --to-date …`. Each
version continues the previous one, even if many runs start at once.
"""

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from learning_engine import config
from learning_engine.airflow import dag_options, weekly_tasks
from learning_engine.airflow.wait_for_earlier import WaitForEarlierRuns


def weekly(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_weekly`; `settings` defaults to `config.load()`."""
    settings = settings or config.load()

    with DAG(
        **{**dag_options.every_dag(settings, "weekly"), "catchup": settings.dag.catchup},
        dag_display_name="Learning Engine: weekly",
        doc_md=__doc__,
        schedule=CronDataIntervalTimetable(settings.dag.schedule, timezone=settings.dag.timezone),
        start_date=dag_options.start_date(settings),
        params={**dag_options.window_params(), **dag_options.training_params(settings)},
        render_template_as_native_obj=True,
    ) as dag:
        gpu, serving = dag_options.gpu(settings), dag_options.serving(settings)

        turn = WaitForEarlierRuns(task_id="turn")
        dataset = task(weekly_tasks.extract)()
        enough = task.short_circuit(weekly_tasks.enough)(dataset)
        fisher = task(**gpu)(weekly_tasks.fisher)(dataset)
        candidate = task(**gpu)(weekly_tasks.train)(dataset, fisher)
        report = task(**gpu)(weekly_tasks.evaluate)(dataset, candidate)
        version = task(pool=settings.dag.registry_pool, outlets=[dag_options.adapter_asset(settings)])(
            weekly_tasks.publish
        )(dataset, candidate, report)
        accepted = task.short_circuit(weekly_tasks.accepted)(version)
        approve = weekly_tasks.Approve(task_id="approve", subject="Deploy this adapter?", execution_timeout=None)
        deployment = task(**serving)(weekly_tasks.deploy)(version)
        verified = task(**serving)(weekly_tasks.verify)(deployment)

        turn >> dataset >> enough >> fisher
        version >> accepted >> approve >> deployment >> verified

    return dag
