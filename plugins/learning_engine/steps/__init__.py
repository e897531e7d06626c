"""The work of each task, as plain functions without Airflow: one module per task, named after it."""
