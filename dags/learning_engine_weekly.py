"""The DAG `learning_engine_weekly`, built by `learning_engine.airflow.dags.weekly`."""

from learning_engine.airflow.dags.weekly import weekly

dag = weekly()
