from pathlib import Path
from typing import Any

import pytest
import torch

from learning_engine.config import sections
from learning_engine.learning import model
from learning_engine.learning.model import Loaded
from tests import tiny


@pytest.fixture(autouse=True)
def one_thread():
    """One thread fixes the order of sums, so that bitwise comparisons do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_adapter(base, tmp_path_factory.mktemp("adapter"), seed=1)


@pytest.fixture(scope="session")
def load(base: Path):
    """`load(adapter, trainable=…, seed=…, model={…}, lora={…})` loads a new model on the tiny base."""

    def call(adapter: Path | None = None, *, trainable: bool = True, seed: int = 0, **settings: Any) -> Loaded:
        return model.load(
            sections.Model(**{"base": str(base), "device": "cpu", **settings.get("model", {})}),
            sections.Lora(**settings.get("lora", {})),
            adapter=adapter,
            trainable=trainable,
            seed=seed,
        )

    return call


@pytest.fixture(scope="session")
def examples(load):
    return tiny.examples(load().tokenizer, 40, seed=0)
