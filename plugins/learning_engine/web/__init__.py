"""The REST API and the web page, served by Airflow's api-server."""

# The path at which Airflow mounts the app.
PREFIX = "/learning-engine"
