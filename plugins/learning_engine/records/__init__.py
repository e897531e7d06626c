"""The records passed between tasks, stored in the bucket and returned by the REST API."""
