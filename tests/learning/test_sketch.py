"""Kronecker factors within a limit on bytes."""

from dataclasses import replace

import pytest
import torch

from learning_engine.errors import FisherMismatch
from learning_engine.learning import ewc, sketch
from learning_engine.learning.model import lora_weights
from tests.learning.test_kronecker import compute, moved


def factors(*, d=32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(d, d, generator=generator) * torch.logspace(0, -3, d)
    return {"layer.q.G": roots @ roots.mT, "layer.q.C": (roots @ roots.mT)[:8, :8].contiguous()}


def size(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_factors_that_fit_stay_exact():
    exact = factors()
    assert sketch.fitted(exact, size(exact)) is exact
    assert sketch.dense(exact) == exact


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.1])
def test_a_sketch_fits_keeps_the_trace_and_is_positive(share):
    exact = factors()
    sketched = sketch.fitted(exact, int(share * size(exact)))
    assert size(sketched) <= share * size(exact)
    back = sketch.dense(sketched)
    assert back.keys() == exact.keys()
    for name, tensor in exact.items():
        trace, found = (each.trace() for each in (tensor, back[name]))
        torch.testing.assert_close(found, trace, rtol=5e-3, atol=0)
        assert torch.linalg.eigvalsh(back[name]).min() > -1e-4 * trace
        # The error is at most rounding plus the error of the best approximation of this rank.
        kept = sketched[f"{name}.values"].shape[0]
        left = torch.linalg.eigvalsh(tensor)[: len(tensor) - kept].norm()
        assert (back[name] - tensor).norm() <= 0.02 * tensor.norm() + 1.01 * left


def test_a_sketch_of_all_directions_is_exact_up_to_rounding():
    exact = factors()
    back = sketch.dense(sketch.fitted(exact, size(exact) - 1))
    for name, tensor in exact.items():
        assert (back[name] - tensor).norm() < 0.01 * tensor.norm()


def test_too_few_bytes_for_one_direction_are_rejected():
    exact = factors()
    for least in range(1, 1000):
        try:
            found = sketch.fitted(exact, least)
        except FisherMismatch as error:
            message = str(error)
            continue
        assert size(found) <= least
        break
    assert f"at least {least}" in message


def test_the_penalty_on_a_sketch_equals_that_on_its_dense_form(load, adapter, examples):
    loaded = load(adapter)
    exact = compute(loaded, examples)
    sketched = sketch.fitted(exact.tensors, size(exact.tensors) // 3)
    assert any(name.endswith(".vectors") for name in sketched)

    def around(tensors):
        return ewc.anchored_penalty(loaded.model, replace(exact, tensors=tensors), 300.0)

    penalties = [around(sketched), around(sketch.dense(sketched)), around(exact.tensors)]
    moved(loaded, scale=0.05)
    weights = list(lora_weights(loaded.model).values())
    ours, plain, whole = (penalty.quadratic(loaded.model) for penalty in penalties)
    assert ours.item() == pytest.approx(plain.item(), rel=0.01)
    assert ours.item() == pytest.approx(whole.item(), rel=0.2)
    for mine, theirs in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(plain, weights), strict=True):
        assert (mine - theirs).norm() < 0.02 * theirs.norm()
