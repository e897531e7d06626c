"""The DAG `learning_engine_reconcile`, built by `learning_engine.airflow.dags.reconcile`."""

from learning_engine.airflow.dags.reconcile import reconcile

dag = reconcile()
