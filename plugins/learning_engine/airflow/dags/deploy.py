"""
### Deploy a version, or roll back

`deploy` puts the version that you name live, whatever the gate said; `rollback` returns to the version that was live
before and revokes the one that it leaves. Both prove every replica before the pointer moves, and the ledger keeps
who asked.
"""

from airflow.sdk import DAG, Param, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks, weekly_tasks


def deploy(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_deploy`; `settings` as `config.load` reads them where None are given."""
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
                type=["null", "string"],
                pattern=r"^v[0-9]+\.[0-9]+$",
                title="Version",
                description="The version to deploy, such as v1.3. Of a rollback the one to leave: another is refused.",
            ),
        },
    ) as dag:
        serving = dag_options.serving(settings)
        choice = task(other_tasks.choose)()
        deployment = task(task_id="deploy", **serving)(other_tasks.deploy_by_hand)(choice)
        task(**serving)(weekly_tasks.verify)(deployment)

    return dag
