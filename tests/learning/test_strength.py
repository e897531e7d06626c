"""λ found while training: the predicted KL ends at its budget, whatever the scale of the problem."""

import math

import pytest
import torch

from learning_engine.config import sections
from learning_engine.learning import ewc, fisher
from learning_engine.learning.strength import GREATEST, LEAST, Budget, Fixed
from tests.learning.test_trainer import train


def descend(strength, *, curvature: float, pull: float, steps: int = 300) -> float:
    """½ c θ² after gradient descent on pull·(1 − θ)²/2 + λ ½ c θ², θ from 0; the optimum moves with λ."""
    theta = torch.zeros(())
    strength.begin(steps)
    for _ in range(steps):
        quadratic = 0.5 * curvature * theta**2
        stiffness = pull + float(strength(quadratic)) * curvature
        theta = theta - 0.1 * min(1.0, 1 / stiffness) * (stiffness * theta - pull)
    return float(0.5 * curvature * theta**2)


@pytest.mark.parametrize("curvature", [0.1, 10.0])
@pytest.mark.parametrize("pull", [0.1, 10.0])
@pytest.mark.parametrize("budget", [1e-3, 1e-2])
def test_the_quadratic_ends_at_its_budget(curvature, pull, budget):
    assert descend(Budget(budget), curvature=curvature, pull=pull) == pytest.approx(budget, rel=0.25)


def test_a_budget_that_is_never_reached_lets_go():
    strength = Budget(1e6)
    assert descend(strength, curvature=1.0, pull=1.0) == pytest.approx(0.5, rel=0.1)
    assert strength.state()["lambda"] == pytest.approx(LEAST)


def test_lambda_stays_within_its_bounds():
    strength = Budget(1e-9)
    strength.begin(50)
    for _ in range(200):
        strength(torch.tensor(1.0))
    assert strength.state()["lambda"] == pytest.approx(GREATEST, rel=1e-4)


def test_it_goes_on_where_it_stopped():
    first, second = Budget(0.01), Budget(0.01)
    first.begin(40)
    second.begin(40)
    values = [torch.tensor(0.02 * math.sin(step) ** 2) for step in range(30)]
    for value in values[:15]:
        first(value)
    second.restore(first.state())
    for value in values[15:]:
        assert float(first(value)) == pytest.approx(float(second(value)), rel=1e-6)


def test_a_fixed_one_is_fixed():
    assert float(Fixed(300.0)(torch.tensor(5.0))) == 300.0
    assert Fixed(300.0).state() == {"lambda": 300.0}


def test_training_meets_the_budget_and_says_so(load, adapter, examples, tmp_path):
    measured = {}
    for budget in (1e-4, 1e-3):
        loaded = load(adapter)
        information = fisher.compute(loaded, examples, sections.Fisher(), seed=0, guards="v1.0")
        penalty = ewc.around(loaded.model, information, "auto", kl_budget=budget)
        metrics = train(loaded, examples, tmp_path / str(budget), penalty=penalty, epochs=40, scheduler="cosine")
        assert metrics.predicted_kl == pytest.approx(budget, rel=0.5)
        measured[budget] = metrics.ewc_lambda
    assert measured[1e-4] > 1.2 * measured[1e-3]
