"""Fisher information from other libraries: per-sequence gradients from one pass over each batch.

Each function takes the same model and batches, computes logits at supervised tokens only, as this package does, and
returns its result under our names, per supervised token.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from learning_engine.learning.batches import IGNORED, Row, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import lora_weights

Tensors = dict[str, torch.Tensor]
Batches = Sequence[Sequence[Row]]


def vmap(model: Any, batches: Batches) -> Tensors:
    """torch.func: vmap of grad over the sequences of a batch."""
    core = model.get_base_model()
    weights = {name: weight.detach() for name, weight in core.model.named_parameters() if "lora_" in name}
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def loss(weights: Tensors, ids: torch.Tensor, places: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ran = torch.func.functional_call(core.model, weights, (ids[None],), {"use_cache": False})
        logits = core.lm_head(ran.last_hidden_state[0, places]).float()
        return functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))
    for batch in batches:
        tensors = collate(batch)
        places, labels = _supervised(tensors["labels"])
        moved = (tensor.to(_device(model)) for tensor in (tensors["input_ids"], places, labels))
        for name, gradient in gradients(weights, *moved).items():
            squares[name] += gradient.square().sum(0)
    names = {name: f"base_model.model.model.{name.replace('.default', '')}" for name in squares}
    return _per_token({names[name]: square for name, square in squares.items()}, batches)


def opacus(model: Any, batches: Batches) -> Tensors:
    """Opacus: GradSampleModule, whose hooks store every parameter's per-sequence gradients."""
    from opacus.grad_sample import GradSampleModule

    weights: dict[str, Any] = dict(lora_weights(model))
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    wrapped = GradSampleModule(model.train(), loss_reduction="sum", strict=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first layer's input needs no gradient
            for batch in batches:
                tensors = collate(batch)
                ids, labels = (tensors[name].to(_device(model)) for name in ("input_ids", "labels"))
                logits, tokens, _ = supervised_logits(model, ids, labels)
                torch.autograd.backward(functional.cross_entropy(logits, tokens, reduction="sum"))
                for name, weight in weights.items():
                    squares[name] += weight.grad_sample.square().sum(0)
                    weight.grad_sample = weight.grad = None
    finally:
        wrapped.to_standard_module().eval()
    return _per_token(squares, batches)


def nngeometry(model: Any, batches: Batches, *, structure: str) -> Tensors:
    """nngeometry's PMatDiag of the LoRA factors, or PMatKFAC of the adapted layers.

    Its linear layers accept only matrices, so each gets positions × features. Its diagonal is then one square per
    position, not Fisher information of sequences, and its K-FAC has the usual factors, Σ δδᵀ and Σ xxᵀ over all
    positions.
    """
    from nngeometry.backend.torch_hooks.torch_hooks import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object.pspace import PMatDiag, PMatKFAC

    core = model.get_base_model()
    endings = ("lora_A.default", "lora_B.default") if structure == "diagonal" else ("base_layer",)

    def log_likelihoods(embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        supervised = labels[:, 1:] != IGNORED
        hidden = core.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        logits = core.lm_head(hidden[:, :-1][supervised]).float()
        losses = functional.cross_entropy(logits, labels[:, 1:][supervised], reduction="none")
        return -losses.new_zeros(len(labels)).index_add(0, supervised.nonzero()[:, 0], losses)[:, None]

    def embedded(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = collate(rows)
        with torch.no_grad():
            ids = tensors["input_ids"].to(_device(model))
            return core.get_input_embeddings()(ids), tensors["labels"].to(_device(model))

    rows: Any = [row for batch in batches for row in batch]
    places = iter(range(len(rows)))
    sampler = [[next(places) for _ in batch] for batch in batches]
    loader: Any = torch.utils.data.DataLoader(rows, batch_sampler=sampler, collate_fn=embedded)
    with _flattened(core, endings) as flat:
        layers = LayerCollection()
        for module in flat.values():
            layers.add_layer_from_model(core, module)
        backend = TorchHooksJacobianBackend(core, function=log_likelihoods, layer_collection=layers)
        kind = PMatDiag if structure == "diagonal" else PMatKFAC
        data = kind(generator=backend, examples=loader).data
    scale = len(rows) / _tokens(batches)
    if structure == "kronecker":
        factors: Tensors = {}
        for name, (inputs, outputs) in zip(flat, data.values(), strict=True):
            layer = f"base_model.model.{name.removesuffix('.base_layer')}"
            factors |= {f"{layer}.G": scale * outputs, f"{layer}.C": inputs / inputs.trace()}
        return factors
    names = (f"base_model.model.{name.replace('.default', '')}.weight" for name in flat)
    weights = [module.weight for module in flat.values()]
    pieces = torch.split(scale * data, [weight.numel() for weight in weights])
    return {name: piece.view_as(weight) for name, piece, weight in zip(names, pieces, weights, strict=True)}


class _Flat(nn.Module):
    """A linear layer that receives all positions of a batch as the rows of one matrix."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.weight = linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat: torch.Tensor = self.linear(x.flatten(0, -2))
        return flat.unflatten(0, x.shape[:-1])


@contextlib.contextmanager
def _flattened(core: nn.Module, endings: tuple[str, ...]) -> Iterator[dict[str, nn.Linear]]:
    """Within the block, the linear layers whose names end with `endings` receive matrices; yields them by name."""
    chosen = {name: module for name, module in core.named_modules() if name.endswith(endings)}
    for name, module in chosen.items():
        core.set_submodule(name, _Flat(module))
    try:
        yield chosen
    finally:
        for name, module in chosen.items():
            core.set_submodule(name, module)


def _supervised(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's positions before its supervised tokens, and those tokens; both (n, most per row), padded."""
    found = [(row[1:] != IGNORED).nonzero()[:, 0] for row in labels]
    places = nn.utils.rnn.pad_sequence(found, batch_first=True)
    tokens = [row[1:][place] for row, place in zip(labels, found, strict=True)]
    return places, nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=IGNORED)


def _per_token(squares: Tensors, batches: Batches) -> Tensors:
    return {name: square / _tokens(batches) for name, square in squares.items()}


def _tokens(batches: Batches) -> int:
    return sum(row.supervised for batch in batches for row in batch)


def _device(model: Any) -> torch.device:
    return torch.device(next(model.parameters()).device)
