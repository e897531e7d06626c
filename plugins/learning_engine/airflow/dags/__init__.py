"""DAG factories. Each file in dags/ calls one of them, and so may your own DAG files."""
