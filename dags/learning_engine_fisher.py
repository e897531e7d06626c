"""The DAG `learning_engine_fisher`, as `learning_engine.airflow.dags.fisher` builds and describes it."""

from learning_engine.airflow.dags.fisher import fisher

dag = fisher()
