"""λ chosen during training: the largest that leaves its share of the progress, at any scale of the problem."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from learning_engine.config import sections
from learning_engine.learning import ewc, fisher, information, scale
from learning_engine.learning.strength import INITIAL_LAMBDA, MAX_LAMBDA, MIN_LAMBDA, Fixed, Progress
from learning_engine.records.contracts import SCALED, FisherRecord
from tests.learning.test_trainer import train

TARGET = torch.tensor([1.0, 1.0])


def descend(strength, *, curvature: torch.Tensor, loss_scale: float = 1.0, steps: int = 400) -> torch.Tensor:
    """Gradient descent from 0 on loss_scale/2 ‖θ − TARGET‖² + λ/2 θᵀ diag(curvature) θ. Returns θ."""
    theta = torch.zeros(2)
    for _ in range(steps):
        task, quadratic = loss_scale * (theta - TARGET), curvature * theta
        gradient = task + strength(task, quadratic) * quadratic
        # A step of equal length at any scale, as Adam's, and shorter towards the end.
        theta = theta - 0.02 * gradient / gradient.norm().clamp_min(1e-6) * min(1.0, float((TARGET - theta).norm()))
    return theta


@pytest.mark.parametrize("loss_scale", [10.0, 1e3, 1e5])
def test_the_window_is_learned_where_a_fixed_lambda_of_the_same_start_stalls(loss_scale):
    curvature = torch.tensor([1.0, 0.01]) / 10
    stalled = descend(Fixed(INITIAL_LAMBDA * loss_scale), curvature=curvature, loss_scale=loss_scale)
    found = descend(Progress(0.5), curvature=curvature, loss_scale=loss_scale)
    assert float(stalled[0]) < 0.1
    assert found.tolist() == pytest.approx(TARGET.tolist(), abs=0.1)


@pytest.mark.parametrize("progress", [0.2, 0.8])
@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_lambda_is_the_largest_that_leaves_the_share(progress, factor):
    """With constant gradients, λ ends where 1 + λ⟨g, h⟩ / ‖g‖² is the share; it is inverse to the scale of F."""
    strength, task, quadratic = Progress(progress), torch.tensor([-3.0, 0.0]), factor * torch.tensor([0.02, 5.0])
    for _ in range(100):
        found = strength(task, quadratic)
    left = 1 + float(found * task.dot(quadratic) / task.dot(task))
    assert left == pytest.approx(progress, rel=1e-3)


def test_noise_of_single_batches_does_not_pass_for_progress():
    """Hardly anything is left to learn; each batch's own gradient is large."""
    generator, strength = torch.Generator().manual_seed(0), Progress(0.5)
    quadratic = 0.01 * torch.ones(1000)
    for _ in range(200):
        task = torch.randn(1000, generator=generator) - 0.05
        found = strength(task, quadratic)
    of_one_batch = 0.5 * 1000 / (0.05 * 0.01 * 1000)
    assert float(found) < 0.1 * of_one_batch


def test_a_bound_is_reported():
    strength = Progress(0.5)
    assert MIN_LAMBDA < INITIAL_LAMBDA < MAX_LAMBDA
    for _ in range(100):
        strength(torch.tensor([-1.0]), torch.tensor([1e6]))
    assert float(strength.state()["lambda"]) == pytest.approx(MIN_LAMBDA, rel=1e-3)
    assert "lower bound" in strength.note()
    for _ in range(100):
        strength(torch.tensor([-1.0]), torch.tensor([-1.0]))
    assert float(strength.state()["lambda"]) == pytest.approx(MAX_LAMBDA, rel=1e-3)
    assert "between 1 and 1e+05" in strength.note()
    upper = Progress(0.5)
    for _ in range(100):
        upper(torch.tensor([-1.0]), torch.tensor([0.0]))
    assert "upper bound" in upper.note()


def test_a_gradient_that_is_not_finite_changes_nothing():
    strength = Progress(0.5)
    for _ in range(3):
        before = strength(torch.tensor([-1.0, 2.0]), torch.tensor([1e-3, 0.0]))
    state = strength.state()
    assert strength(torch.tensor([torch.inf, 2.0]), torch.tensor([1e-3, 0.0])) == before
    assert all(torch.equal(value, state[name]) for name, value in strength.state().items())


def test_a_fixed_strength_is_constant():
    assert float(Fixed(300.0)(torch.ones(2), torch.ones(2))) == 300.0
    assert Fixed(300.0).state() == {"lambda": 300.0}
    assert Fixed(300.0).note() is None


def test_a_resumed_training_finds_the_same_lambda(load, adapter, examples, tmp_path):
    def penalty(loaded):
        measured = fisher.compute(loaded, examples, sections.Fisher(draws=1), seed=0, guards="v1.0")
        return ewc.anchored_penalty(loaded.model, scale.scaled(measured), "auto")

    kept = []
    loaded = load(adapter)
    whole = train(
        loaded, examples, tmp_path / "whole", penalty=penalty(loaded), epochs=4, checkpoint_steps=7,
        on_checkpoint=lambda path: kept.append(path.rename(tmp_path / f"kept-{len(kept)}")),
    )  # fmt: skip
    assert len({whole.ewc_lambda, INITIAL_LAMBDA}) == 2
    loaded = load(adapter)
    resumed = train(loaded, examples, tmp_path / "resumed", penalty=penalty(loaded), epochs=4, resume=kept[0])
    assert resumed.resumed_at_step == 7
    assert resumed.ewc_lambda == pytest.approx(whole.ewc_lambda, rel=1e-4)
    assert f"{whole.ewc_lambda:.3g} at the last step" in whole.notes[-1]


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
    _, week, whole = changed
    assert (week.weight, whole.weight) == (1.0, 1 + 0.5 * (1 + 1.0))


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
    record = FisherRecord("v1.2", "diagonal", "sampled", SCALED, None, None, 3, 20, ["v1.0", "v1.1"], 0.5)
    assert FisherRecord.from_json({k: v for k, v in record.to_json().items() if k != "weight"}).weight == 1.75
