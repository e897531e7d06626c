"""Fisher information as a record and as a file: what it measures, of which model, and in which form.

Kinds, each with a module of its name: `diagonal`, on the LoRA factors, and `kronecker`, on the change of the weights.
One kind is never read as another, nor for another base model or LoRA shape.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from learning_engine.errors import FisherMismatch
from learning_engine.learning import kronecker, sketch
from learning_engine.records.contracts import FORMER_KRONECKER, KRONECKER, LoraShape, weight_of

UNITS = "per_supervised_token"


@dataclass(frozen=True)
class FisherInformation:
    """`tensors`, on the CPU, are named and shaped as the module of `kind` says.

    `guards` is the version (or "base") whose knowledge it measures, `accumulated` the earlier ones folded in, oldest
    first, the last fold with the factor `decay`; `weight` is what all of them weigh together, `guards` as 1 (files from
    before it was kept: as if each fold had had the same decay). Counts are those of `guards` alone.
    """

    tensors: dict[str, torch.Tensor]
    kind: str
    labels: str
    units: str
    n_sequences: int
    n_tokens: int
    base_model: str
    base_revision: str
    lora: LoraShape
    guards: str
    accumulated: tuple[str, ...] = ()
    decay: float = 1.0
    smoothing: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.weight:
            object.__setattr__(self, "weight", weight_of(len(self.accumulated), self.decay))


def save(information: FisherInformation, path: Path) -> None:
    """Write one safetensors file with its metadata; equal information gives equal bytes."""
    about = {name: value for name, value in asdict(replace(information, tensors={})).items() if name != "tensors"}
    # One metadata key only: safetensors writes several in an order that changes from call to call.
    metadata = {"fisher": json.dumps(about, sort_keys=True)}
    safetensors.torch.save_file(information.tensors, path, metadata=metadata)


def load(
    path: Path, *, base_model: str, base_revision: str, lora: LoraShape, kind: str, labels: str, smoothing: float
) -> FisherInformation:
    """Read what `save` wrote. Raises FisherMismatch where it is unreadable or not what is asked for."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["fisher"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if about["kind"] == FORMER_KRONECKER:
            about["kind"], tensors = KRONECKER, _as_one_pair(tensors)
        shape = about["lora"]
        about["lora"] = LoraShape(shape["rank"], shape["alpha"], tuple(shape["target_modules"]))
        about["accumulated"] = tuple(about["accumulated"])
        information = FisherInformation(tensors=tensors, **about)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FisherMismatch(f"Expected Fisher information of this package in {path.name}: {error!r}") from error
    expected = {
        "base_model": base_model,
        "base_revision": base_revision,
        "lora": lora,
        "kind": kind,
        "labels": labels,
        "smoothing": smoothing,
        "units": UNITS,
    }
    for field, value in expected.items():
        _same(field, value, getattr(information, field), path.name)
    return information


def _as_one_pair(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Files from before there was one pair of factors only have a first axis of k pairs, nearly always one."""
    if all(len(tensor) == 1 for tensor in tensors.values()):
        return {name: tensor[0] for name, tensor in tensors.items()}
    return kronecker.one_pair(sketch.dense(tensors))


def check_alike(new: FisherInformation, old: FisherInformation) -> None:
    """Raise FisherMismatch unless the two may be added up."""
    for field in ("kind", "labels", "smoothing", "units", "base_model", "base_revision", "lora"):
        _same(field, getattr(new, field), getattr(old, field), f"the Fisher information of {old.guards}")


def _same(field: str, expected: object, found: object, where: str) -> None:
    if isinstance(expected, LoraShape) and isinstance(found, LoraShape):
        expected, found = _ordered(expected), _ordered(found)
    if expected != found:
        raise FisherMismatch(
            f"Expected Fisher information with {field} = {expected!r}, found {found!r} in {where}: kinds, base models "
            "and LoRA shapes are never mixed; compute it anew for this configuration"
        )


def _ordered(shape: LoraShape) -> tuple[int, float, list[str]]:
    return shape.rank, shape.alpha, sorted(shape.target_modules)
