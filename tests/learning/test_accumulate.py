"""Kronecker factors of two versions added layer by layer, because those of a large model take gigabytes."""

import pytest
import torch

from benchmarks.common.memory import peak_bytes
from learning_engine.learning import kronecker, sketch
from tests.learning.test_sketch import size


def random_factors(layers: int, *, d_out: int = 16, d_in: int = 32, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(layers):
        for factor, width in (("G", d_out), ("C", d_in)):
            roots = torch.randn(width, width, generator=generator)
            found[f"layers.{layer}.q_proj.{factor}"] = roots @ roots.mT
    return found


@pytest.mark.parametrize("sketched", [False, True])
def test_adding_weeks_layer_by_layer_gives_the_factors_of_the_whole(sketched):
    new, old = random_factors(3, seed=0), random_factors(3, seed=1)
    if sketched:
        old = sketch.fitted(old, size(old) // 3)
    dense = sketch.dense(old)
    pairs = {
        key: torch.stack([dense[key] if key.endswith(".C") else 0.5 * dense[key], tensor])
        for key, tensor in new.items()
    }
    expected = kronecker.merge_pairs(pairs)
    found = kronecker.accumulate(dict(new), old, 0.5)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_adding_weeks_holds_hardly_more_than_both():
    layers, kept = 40, random_factors(40, seed=1)
    old = sketch.fitted(kept, size(kept) // 3)
    one = size(kept) // layers

    def add() -> None:
        new = {key: tensor.clone() for key, tensor in kept.items()}
        kronecker.accumulate(new, {key: tensor.clone() for key, tensor in old.items()}, 0.5)

    assert peak_bytes(add, device="cpu") <= size(kept) + size(old) + 8 * one
