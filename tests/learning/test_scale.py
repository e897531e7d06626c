"""Every version's Fisher information weighs alike, whatever its own trace."""

from dataclasses import replace

import pytest
import torch

from learning_engine.config import sections
from learning_engine.learning import fisher, scale, sketch
from learning_engine.learning.information import FisherInformation
from learning_engine.records.contracts import SCALED


@pytest.fixture
def measure(load, adapter, examples):
    def call(structure: str) -> FisherInformation:
        settings = sections.Fisher(structure=structure, draws=1)
        return fisher.compute(load(adapter), examples, settings, seed=0, guards="v1.0")

    return call


@pytest.fixture(params=["kronecker", "diagonal"])
def measured(request, measure) -> FisherInformation:
    return measure(request.param)


def _times(information: FisherInformation, factor: float) -> FisherInformation:
    outputs = (".G", ".weight")
    tensors = {name: t * factor if name.endswith(outputs) else t for name, t in information.tensors.items()}
    return replace(information, tensors=tensors)


def test_the_mean_trace_of_a_layer_is_the_weight(measured):
    found = scale.scaled(measured)
    assert (found.units, found.trace) == (SCALED, pytest.approx(scale.layer_trace(measured)))
    assert scale.layer_trace(found) == pytest.approx(1.0)
    assert scale.layer_trace(scale.scaled(replace(measured, weight=2.5))) == pytest.approx(2.5)


def test_a_version_with_a_thousandfold_trace_weighs_as_much_as_any_other(measured):
    week = scale.scaled(measured)
    later = scale.scaled(_times(measured, 1000.0))
    assert later.trace == pytest.approx(1000 * week.trace)
    for name, tensor in week.tensors.items():
        torch.testing.assert_close(later.tensors[name], tensor)
    both = fisher.accumulate(later, week, sections.Fisher())
    assert scale.layer_trace(both) == pytest.approx(both.weight) == 2.0


def test_layers_keep_their_proportions(measured):
    before, after = measured.tensors, scale.scaled(measured).tensors
    ratios = {name: float(after[name].sum() / before[name].sum()) for name in before if not name.endswith(".C")}
    assert max(ratios.values()) == pytest.approx(min(ratios.values()), rel=1e-4)


def test_sketched_factors_are_scaled_like_dense_ones(measure):
    measured = measure("kronecker")
    whole = sum(tensor.numel() * 4 for tensor in measured.tensors.values())
    sketched = fisher.fitted(measured, sections.Fisher(max_bytes=whole // 3))
    assert sketched.tensors.keys() != measured.tensors.keys()
    found = scale.scaled(sketched)
    assert scale.layer_trace(found) == pytest.approx(1.0)
    traces = [float(t.trace()) for name, t in sketch.dense(found.tensors).items() if name.endswith(".G")]
    assert sum(traces) / len(traces) == pytest.approx(1.0, rel=1e-3)


def test_information_without_any_trace_stays_zero(measured):
    nothing = replace(measured, tensors={name: torch.zeros_like(t) for name, t in measured.tensors.items()})
    assert all(not tensor.any() for tensor in scale.scaled(nothing).tensors.values())
