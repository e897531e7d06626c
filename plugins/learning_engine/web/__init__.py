"""The REST API and the page inside Airflow's api-server."""

# Where Airflow mounts the app.
PREFIX = "/learning-engine"
