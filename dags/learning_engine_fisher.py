"""
### Measure Fisher information again

Computes the Fisher information of a published version anew, on its own window or on another one, and replaces what
the bucket holds: the next training that continues this version is guarded by it.
"""

from airflow.sdk import Param, dag, task

from learning_engine import chores, config, options

settings = config.load()


@dag(  # type: ignore[untyped-decorator]
    dag_id=f"{settings.dag.id_prefix}_fisher",
    dag_display_name="Learning Engine: Fisher information",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args=options.default_args(settings),
    params={
        "version": Param(
            type="string",
            pattern=r"^v[0-9]+\.[0-9]+$",
            title="Version",
            description="The version to measure, such as v1.3.",
        ),
        **options.window_params(),
    },
    tags=list(settings.dag.tags),
)
def learning_engine_fisher() -> None:
    task(**options.gpu(settings))(chores.fisher_of_version)()


learning_engine_fisher()
