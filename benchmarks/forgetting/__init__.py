"""What the three forgetting benchmarks share: worlds to learn, methods that should not forget, the chain of weeks."""
