"""Writers of the generated pages of docs/: configuration, REST API, metrics. `make docs` runs them."""
