"""
### Measure Fisher information again

Measures the Fisher information of a published version again, on its own window or on another one, and replaces the
measurement in the bucket. The next training that continues this version uses it to protect what it has learned.
"""

from airflow.sdk import DAG, Param, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks


def fisher(settings: config.Settings | None = None) -> DAG:
    """The DAG `<id_prefix>_fisher`; `settings` defaults to `config.load()`."""
    settings = settings or config.load()

    with DAG(
        **dag_options.every_dag(settings, "fisher"),
        dag_display_name="Learning Engine: Fisher information",
        doc_md=__doc__,
        schedule=None,
        params={
            "version": Param(**dag_options.VERSION, type="string", description="The version to measure, such as v1.3."),
            **dag_options.window_params(),
        },
    ) as dag:
        task(**dag_options.gpu(settings))(other_tasks.fisher_of_version)()

    return dag
