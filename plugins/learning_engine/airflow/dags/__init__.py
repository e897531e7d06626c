"""DAG factories. Each file in dags/ calls one of them; your own DAG files may call them too."""
