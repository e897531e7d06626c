"""Shared code of the three forgetting benchmarks: worlds to learn, methods against forgetting, the chain of weeks."""
