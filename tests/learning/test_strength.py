"""λ adjusted during training: the predicted KL ends at its budget, at any scale of the problem."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from learning_engine.config import sections
from learning_engine.learning import ewc, fisher, information
from learning_engine.learning.model import lora_weights
from learning_engine.learning.strength import MAX_LAMBDA, MIN_LAMBDA, BudgetController, FixedStrength
from learning_engine.records.contracts import FisherRecord
from tests.learning.test_trainer import train


def descend(strength, *, curvature: float, pull: float, steps: int = 300) -> float:
    """½ c θ² after gradient descent on pull·(1 − θ)²/2 + λ ½ c θ² from θ = 0; the optimum depends on λ."""
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
def test_the_predicted_kl_ends_at_its_budget(curvature, pull, budget):
    assert descend(BudgetController(budget), curvature=curvature, pull=pull) == pytest.approx(budget, rel=0.25)


def test_a_budget_that_is_never_reached_gives_the_minimum_lambda():
    strength = BudgetController(1e6)
    assert descend(strength, curvature=1.0, pull=1.0) == pytest.approx(0.5, rel=0.1)
    assert strength.state()["lambda"] == pytest.approx(MIN_LAMBDA)


def test_lambda_stays_within_its_bounds():
    strength = BudgetController(1e-9)
    strength.begin(50)
    for _ in range(200):
        strength(torch.tensor(1.0))
    assert strength.state()["lambda"] == pytest.approx(MAX_LAMBDA, rel=1e-4)


def test_a_restored_controller_continues_where_it_stopped():
    first, second = BudgetController(0.01), BudgetController(0.01)
    first.begin(40)
    second.begin(40)
    values = [torch.tensor(0.02 * math.sin(step) ** 2) for step in range(30)]
    for value in values[:15]:
        first(value)
    second.restore(first.state())
    for value in values[15:]:
        assert float(first(value)) == pytest.approx(float(second(value)), rel=1e-6)


def test_a_fixed_strength_is_constant():
    assert float(FixedStrength(300.0)(torch.tensor(5.0))) == 300.0
    assert FixedStrength(300.0).state() == {"lambda": 300.0}


def test_training_meets_the_budget_and_reports_it(load, adapter, examples, tmp_path):
    measured = {}
    for budget in (1e-4, 1e-3):
        loaded = load(adapter)
        information = fisher.compute(loaded, examples, sections.Fisher(), seed=0, guards="v1.0")
        penalty = ewc.anchored_penalty(loaded.model, information, "auto", kl_budget=budget)
        metrics = train(loaded, examples, tmp_path / str(budget), penalty=penalty, epochs=40, scheduler="cosine")
        assert metrics.predicted_kl == pytest.approx(budget, rel=0.5)
        measured[budget] = metrics.ewc_lambda
    assert measured[1e-4] > 1.2 * measured[1e-3]


@pytest.fixture
def changed(load, adapter, examples):
    """A model, one week's Fisher information, and the sum over three equal weeks with another `decay` for the third."""
    loaded = load(adapter)
    week = fisher.compute(loaded, examples, sections.Fisher(structure="diagonal", draws=1), seed=0, guards="v1.0")
    whole = week
    for number, decay in ((1, 1.0), (2, 0.5)):
        settings = sections.Fisher(structure="diagonal", decay=decay)
        whole = fisher.accumulate(replace(week, guards=f"v1.{number}"), whole, settings)
    return loaded, week, whole


def test_the_weight_reflects_each_decay_that_was_used(changed):
    loaded, week, whole = changed
    assert (week.weight, whole.weight) == (1.0, 1 + 0.5 * (1 + 1.0))
    penalties = [ewc.anchored_penalty(loaded.model, each, 1.0) for each in (week, whole)]
    budget = ewc.anchored_penalty(loaded.model, whole, "auto", kl_budget=1e-3).strength
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight += 0.01
    # The mean over three equal weeks equals that of a single one.
    alone, mean = (penalty.predicted_kl(loaded.model) for penalty in penalties)
    assert mean == pytest.approx(alone, rel=1e-5)
    budget.begin(10)
    budget(torch.tensor(2.0 * 1e-3))
    assert budget.state()["error"] == pytest.approx(0, abs=1e-6), "a weight of 2 has twice the budget"


def test_an_older_file_without_weight_uses_its_decay(changed, tmp_path):
    loaded, _, whole = changed
    old = replace(whole, decay=0.5, weight=0.0)
    assert old.weight == 1 + 0.5 + 0.5**2
    path = tmp_path / "fisher.safetensors"

    def read():
        return information.load(
            path,
            base_model=loaded.base,
            base_revision=loaded.revision,
            lora=loaded.lora,
            kind="diagonal",
            labels="sampled",
            smoothing=whole.smoothing,
        )

    information.save(whole, path)
    assert read().weight == 2.0
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["fisher"])
    del about["weight"]
    save_file(whole.tensors, path, metadata={"fisher": json.dumps(about)})
    assert read().weight == 1.75
    record = FisherRecord("v1.2", "diagonal", "sampled", information.UNITS, None, None, 3, 20, ["v1.0", "v1.1"], 0.5)
    assert FisherRecord.from_json({k: v for k, v in record.to_json().items() if k != "weight"}).weight == 1.75
