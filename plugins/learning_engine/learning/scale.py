"""Fisher information on one scale, so that every version weighs alike and λ means the same for each.

The trace of Fisher information grows by orders of magnitude over a year of versions, because later versions depend on
few weights strongly, and it differs by as much between base models. A sum of such measurements would protect the
newest versions only, ever more firmly. So each measurement is divided by its mean trace per adapted layer, as Schwarz
et al. 2018 normalise it; afterwards that trace is the total weight of the versions.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from learning_engine.learning.information import FisherInformation
from learning_engine.learning.sketch import REST, VALUES, VECTORS
from learning_engine.records.contracts import SCALED

Tensors = Mapping[str, torch.Tensor]
# The tensors in proportion to the trace; of G ⊗ C it is G, and C has the trace 1.
_OUTPUTS = (".G", f".G{VALUES}", f".G{REST}")


def layer_trace(information: FisherInformation) -> float:
    """The mean trace per adapted layer, in nats per supervised token and squared unit of weight."""
    tensors = information.tensors
    if information.kind == "diagonal":
        # Each layer has two factors.
        return sum(float(tensor.sum(dtype=torch.float64)) for tensor in tensors.values()) / (len(tensors) / 2)
    traces = [_trace(tensors, name) for name in tensors if name.endswith((".G", f".G{VALUES}"))]
    return sum(traces) / len(traces)


def scaled(information: FisherInformation) -> FisherInformation:
    """`information` with a mean trace per layer equal to its weight; unchanged if its trace is zero.

    `trace` records what it was.
    """
    found = layer_trace(information)
    factor = information.weight / found if found else 1.0
    diagonal = information.kind == "diagonal"
    tensors = {
        name: tensor * factor if diagonal or name.endswith(_OUTPUTS) else tensor
        for name, tensor in information.tensors.items()
    }
    return replace(information, tensors=tensors, units=SCALED, trace=found)


def _trace(tensors: Tensors, name: str) -> float:
    if not name.endswith(VALUES):
        return float(tensors[name].trace())
    factor = name.removesuffix(VALUES)
    vectors, rest = tensors[factor + VECTORS], tensors[factor + REST]
    # The eigenvectors were rounded, so their length is not exactly 1.
    lengths = vectors.float().square().sum(0)
    return float((tensors[name] * lengths).sum() + rest * len(vectors))
