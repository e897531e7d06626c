"""Implementations of other methods, and the environment for other libraries."""
