"""
### Deploy a version, or roll back

`deploy` deploys the version that you name, even if the gate rejected it. `rollback` returns to the previously live
version and revokes the one that it replaces. Both verify every replica before the pointer moves, and the ledger records
who requested it.
"""

from airflow.sdk import DAG, Param, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks, weekly_tasks


def deploy(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_deploy`; `settings` defaults to `config.load()`."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "deploy"),
        dag_display_name="Learning Engine: deploy or roll back",
        doc_md=__doc__,
        schedule=None,
        params={
            "action": Param(
                "deploy",
                type="string",
                enum=["deploy", "rollback"],
                title="Action",
                description="rollback: return to the version that was live before, and revoke the live one.",
            ),
            "version": Param(
                None,
                **dag_options.VERSION,
                type=["null", "string"],
                description="The version to deploy, such as v1.3. For a rollback: the version that must be live.",
            ),
        },
    ) as dag:
        serving = dag_options.serving(settings)
        choice = task(other_tasks.choose)()
        deployment = task(task_id="deploy", **serving)(other_tasks.deploy_by_hand)(choice)
        task(**serving)(weekly_tasks.verify)(deployment)

    return dag
