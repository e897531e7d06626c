"""Whether what is in an archive can be a version at all."""

from pathlib import Path

from learning_engine.learning import adapter as adapters
from learning_engine.records.contracts import LoraShape


def broken_weights(directory: Path, shape: LoraShape) -> int:
    """How many weights of the adapter's files are NaN or infinite. Raises ModelError where they cannot be read."""
    return sum(int((~tensor.isfinite()).sum()) for tensor in adapters.read(directory, shape).values())
