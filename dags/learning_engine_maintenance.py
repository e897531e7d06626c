"""The DAG `learning_engine_maintenance`, built by `learning_engine.airflow.dags.maintenance`."""

from learning_engine.airflow.dags.maintenance import maintenance

dag = maintenance()
