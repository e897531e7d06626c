"""
### Measure Fisher information again

Computes the Fisher information of a published version anew, on its own window or on another one, and replaces what
the bucket holds: the next training that continues this version is guarded by it.
"""

from airflow.sdk import DAG, Param, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks


def fisher(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_fisher`; `settings` as `config.load` reads them where None are given."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "fisher"),
        dag_display_name="Learning Engine: Fisher information",
        doc_md=__doc__,
        schedule=None,
        params={
            "version": Param(
                type="string",
                pattern=r"^v[0-9]+\.[0-9]+$",
                title="Version",
                description="The version to measure, such as v1.3.",
            ),
            **dag_options.window_params(),
        },
    ) as dag:
        task(**dag_options.gpu(settings))(other_tasks.fisher_of_version)()

    return dag
