"""The DAG `learning_engine_reconcile`, as `learning_engine.airflow.dags.reconcile` builds and describes it."""

from learning_engine.airflow.dags.reconcile import reconcile

dag = reconcile()
