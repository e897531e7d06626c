"""Check an adapter's weights for NaN and infinity."""

from pathlib import Path

from learning_engine.learning import adapter as adapters
from learning_engine.records.contracts import LoraShape


def broken_weights(directory: Path, shape: LoraShape) -> int:
    """The number of weights in the adapter's files that are NaN or infinite. Raises ModelError if unreadable."""
    return sum(int((~tensor.isfinite()).sum()) for tensor in adapters.read(directory, shape).values())
