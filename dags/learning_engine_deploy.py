"""The DAG `learning_engine_deploy`, built by `learning_engine.airflow.dags.deploy`."""

from learning_engine.airflow.dags.deploy import deploy

dag = deploy()
