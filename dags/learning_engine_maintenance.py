"""The DAG `learning_engine_maintenance`, as `learning_engine.airflow.dags.maintenance` builds and describes it."""

from learning_engine.airflow.dags.maintenance import maintenance

dag = maintenance()
