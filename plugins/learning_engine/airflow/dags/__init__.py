"""The DAGs as factories: a file in dags/ calls one of them, and so may a DAG file of your own."""
