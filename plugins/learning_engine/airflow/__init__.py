"""Airflow integration: DAGs, tasks, connections and windows. Only `web/` and `plugin` also import Airflow."""
