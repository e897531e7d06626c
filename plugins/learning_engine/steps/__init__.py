"""What each task does, as plain functions that know no Airflow: one file per task, named as the task."""
