"""Everything that imports Airflow, except the API and page of `web/`: DAGs, tasks, connections, windows."""
