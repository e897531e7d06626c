"""The DAG `learning_engine_weekly`, as `learning_engine.airflow.dags.weekly` builds and describes it."""

from learning_engine.airflow.dags.weekly import weekly

dag = weekly()
