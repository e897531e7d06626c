"""
### Measure Fisher information again

Computes the Fisher information of a published version anew, on its own window or on another one, and replaces what
the bucket holds: the next training that continues this version is guarded by it.
"""

from airflow.sdk import Param, dag, task

from learning_engine import config
from learning_engine.airflow import dag_options, other_tasks

settings = config.load()


@dag(  # type: ignore[untyped-decorator]
    dag_id=f"{settings.dag.id_prefix}_fisher",
    dag_display_name="Learning Engine: Fisher information",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args=dag_options.default_args(settings),
    params={
        "version": Param(
            type="string",
            pattern=r"^v[0-9]+\.[0-9]+$",
            title="Version",
            description="The version to measure, such as v1.3.",
        ),
        **dag_options.window_params(),
    },
    tags=list(settings.dag.tags),
)
def learning_engine_fisher() -> None:
    task(**dag_options.gpu(settings))(other_tasks.fisher_of_version)()


learning_engine_fisher()
