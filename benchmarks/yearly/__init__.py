"""A year of weeks: what a chain of 52 adapters learns and keeps."""
