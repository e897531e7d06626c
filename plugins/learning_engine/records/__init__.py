"""The records that travel between tasks, into the bucket and out of the REST API."""
