"""The DAG `learning_engine_deploy`, as `learning_engine.airflow.dags.deploy` builds and describes it."""

from learning_engine.airflow.dags.deploy import deploy

dag = deploy()
