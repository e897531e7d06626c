"""Fisher information with the version, base model and structure that it belongs to, and its file format.

There are two kinds, each documented in the module of that name: `diagonal`, of the LoRA factors, and `kronecker`, of
the weight change. Loading fails if the kind, base model or LoRA shape is not the expected one.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from learning_engine.errors import FisherMismatch
from learning_engine.learning import kronecker, sketch
from learning_engine.records.contracts import FORMER_KRONECKER, KRONECKER, MEASURED, SCALED, LoraShape, weight_of


@dataclass(frozen=True)
class FisherInformation:
    """`tensors`, on the CPU, have the names and shapes documented in the module `kind`.

    `guards` is the version (or "base") that it was measured on; `accumulated` lists the earlier versions added to it,
    oldest first, the last time with the factor `decay`. `weight` is the total weight of all of them, `guards` counting
    as 1, or as 0 if it had no likes; for older files without it, it is computed as if every addition had used the same
    decay. `n_sequences` and `n_tokens` count the data of `guards` alone, and `trace` is the mean trace of a layer
    measured on it, or 0 before it is scaled.
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
    trace: float = 0.0

    def __post_init__(self) -> None:
        if not self.weight:
            object.__setattr__(self, "weight", weight_of(len(self.accumulated), self.decay))


def save(information: FisherInformation, path: Path) -> None:
    """Write one safetensors file with its metadata. Equal information gives equal bytes."""
    about = {name: value for name, value in asdict(replace(information, tensors={})).items() if name != "tensors"}
    # A single metadata key: safetensors writes several keys in an order that varies between calls.
    metadata = {"fisher": json.dumps(about, sort_keys=True)}
    safetensors.torch.save_file(information.tensors, path, metadata=metadata)


def load(
    path: Path, *, base_model: str, base_revision: str, lora: LoraShape, kind: str, labels: str, smoothing: float
) -> FisherInformation:
    """Read a file that `save` wrote. Raises FisherMismatch if it is unreadable or not what the arguments describe."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["fisher"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if about["kind"] == FORMER_KRONECKER:
            about["kind"], tensors = KRONECKER, _merged(tensors)
        shape = about["lora"]
        about["lora"] = LoraShape(shape["rank"], shape["alpha"], tuple(shape["target_modules"]))
        about["accumulated"] = tuple(about["accumulated"])
        information = FisherInformation(tensors=tensors, **about)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FisherMismatch(
            f"Expected Fisher information of this package in {path.name}, found an error: {error!r}"
        ) from error
    expected = {
        "base_model": base_model,
        "base_revision": base_revision,
        "lora": lora,
        "kind": kind,
        "labels": labels,
        "smoothing": smoothing,
    }
    if information.units != MEASURED:  # as older versions of this package stored it
        expected["units"] = SCALED
    for field, value in expected.items():
        _check_equal(field, value, getattr(information, field), path.name)
    return information


def _merged(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert older files, whose tensors have a first axis of k pairs of factors (nearly always one), to one pair."""
    if all(len(tensor) == 1 for tensor in tensors.values()):
        return {name: tensor[0] for name, tensor in tensors.items()}
    return kronecker.merge_pairs(sketch.dense(tensors))


def check_compatible(new: FisherInformation, old: FisherInformation) -> None:
    """Raise FisherMismatch unless the two may be added."""
    for field in ("kind", "labels", "smoothing", "units", "base_model", "base_revision", "lora"):
        _check_equal(field, getattr(new, field), getattr(old, field), f"the Fisher information of {old.guards}")


def _check_equal(field: str, expected: object, found: object, where: str) -> None:
    if isinstance(expected, LoraShape) and isinstance(found, LoraShape):
        expected, found = _ordered(expected), _ordered(found)
    if expected != found:
        raise FisherMismatch(
            f"Expected Fisher information with {field} = {expected!r}, found {found!r} in {where}: compute it again "
            "for this configuration, because different kinds, base models or LoRA shapes cannot be combined"
        )


def _ordered(shape: LoraShape) -> tuple[int, float, list[str]]:
    return shape.rank, shape.alpha, sorted(shape.target_modules)
