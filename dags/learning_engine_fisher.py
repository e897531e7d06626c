"""The DAG `learning_engine_fisher`, built by `learning_engine.airflow.dags.fisher`."""

from learning_engine.airflow.dags.fisher import fisher

dag = fisher()
