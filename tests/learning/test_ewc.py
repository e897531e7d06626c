import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import FisherMismatch
from learning_engine.learning import ewc, fisher
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import lora_weights


def information(loaded, tensors) -> FisherInformation:
    return FisherInformation(
        tensors,
        "diagonal",
        "sampled",
        "per_supervised_token",
        3,
        20,
        loaded.base,
        loaded.revision,
        loaded.lora,
        "v1.0",
    )


def around(loaded, tensors, ewc_lambda):
    return ewc.anchored_penalty(loaded.model, information(loaded, tensors), ewc_lambda)


def test_the_penalty_equals_its_formula_computed_by_hand(load):
    loaded = load()
    weights = lora_weights(loaded.model)
    importance = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    name = next(iter(weights))
    importance[name][0, 0], importance[name][1, 2] = 3.0, 0.5
    penalty = around(loaded, importance, 10.0)
    assert penalty.add_gradient(loaded.model).item() == 0.0
    with torch.no_grad():
        weights[name][0, 0] += 0.1
        weights[name][1, 2] -= 2.0
        weights[name][2, 2] += 5.0
    cost = penalty.add_gradient(loaded.model)
    assert cost.item() == pytest.approx(10 / 2 * (3.0 * 0.1**2 + 0.5 * 2.0**2), rel=1e-5)
    assert weights[name].grad[0, 0].item() == pytest.approx(10 * 3.0 * 0.1, rel=1e-5)
    assert weights[name].grad[1, 2].item() == pytest.approx(-10 * 0.5 * 2.0, rel=1e-5)
    assert weights[name].grad.count_nonzero() == 2
    penalty.add_gradient(loaded.model, scale=8.0)
    assert weights[name].grad[0, 0].item() == pytest.approx((1 + 8) * 10 * 3.0 * 0.1, rel=1e-5)


def test_value_and_gradient_equal_those_of_autograd(load, adapter, examples):
    loaded = load(adapter)
    importance = fisher.compute(loaded, examples, sections.Fisher(structure="diagonal"), seed=0, guards="v1.0").tensors
    penalty = around(loaded, importance, 300.0)
    weights = lora_weights(loaded.model)
    anchor = {name: weight.detach().clone() for name, weight in weights.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in weights.values():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    plain = sum(
        (1 / 2 * importance[name].double() * (weight.double() - anchor[name].double()) ** 2).sum()
        for name, weight in weights.items()
    )
    found = penalty.quadratic(loaded.model)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = torch.autograd.grad(plain, list(weights.values()))
    for ours, theirs in zip(torch.autograd.grad(found, list(weights.values())), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("measured", [False, True])
def test_without_fisher_information_or_lambda_the_penalty_is_zero(load, measured):
    loaded = load()
    importance = {name: torch.ones_like(weight) for name, weight in lora_weights(loaded.model).items()}
    penalty = around(loaded, importance, 0.0) if measured else ewc.anchored_penalty(loaded.model, None, 300.0)
    with torch.no_grad():
        lora_weights(loaded.model).popitem()[1].add_(1.0)
    assert penalty.add_gradient(loaded.model).item() == 0.0


def test_fisher_information_of_other_weights_is_rejected(load):
    loaded = load()
    importance = {name: torch.ones_like(weight) for name, weight in lora_weights(loaded.model).items()}
    name, tensor = importance.popitem()
    with pytest.raises(FisherMismatch, match=f"16 adapted weights, found it for 15.*{name}"):
        around(loaded, importance, 1.0)
    with pytest.raises(FisherMismatch, match=name):
        around(loaded, {**importance, name: tensor.T}, 1.0)
