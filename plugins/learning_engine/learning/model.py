"""The model to train: a frozen base model with one LoRA adapter in float32.

LoRA (Hu et al., 2021): y = W₀x + s·B(Ax), s = alpha / rank; A is (rank, d_in), B is (d_out, rank). A new adapter has
B = 0, so its outputs are those of the base model.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn

from learning_engine.config import sections
from learning_engine.errors import ModelError
from learning_engine.learning import adapter as adapters
from learning_engine.learning.base import base_revision, load_base, load_tokenizer, pick_device, quietly
from learning_engine.records.contracts import LoraShape

__all__ = ["Loaded", "base_revision", "load", "load_tokenizer", "lora_weights", "save_adapter"]


@dataclass(frozen=True)
class Loaded:
    """A peft.PeftModel in eval mode. `base` and `revision` identify the base model; `lora` is the adapter's shape."""

    model: Any
    tokenizer: Any
    device: torch.device
    revision: str
    base: str
    lora: LoraShape


def load(model: sections.Model, lora: sections.Lora, *, adapter: Path | None, trainable: bool, seed: int) -> Loaded:
    """Load the base model with the adapter in the directory `adapter`, or with a new one initialised from `seed`.

    Raises ModelError if the model or adapter is missing, unreadable or not of the configured shape.
    """
    shape = LoraShape(lora.rank, float(lora.alpha), tuple(sorted(lora.target_modules)))
    device = pick_device(model)
    tensors = adapters.read(adapter, shape) if adapter else None
    revision, tokenizer = base_revision(model), load_tokenizer(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), quietly():
        peft_model = get_peft_model(load_base(model, device), _config(lora))
    if tensors is None:
        _initialise(peft_model, seed)
    else:
        _fill(peft_model, tensors, Path(str(adapter)))
    weights = lora_weights(peft_model)
    for parameter in weights.values():
        parameter.requires_grad_(trainable)
    check_trainable(peft_model, expected=set(weights) if trainable else set())
    return Loaded(peft_model.eval(), tokenizer, device, revision, model.base, shape)


def lora_weights(model: Any) -> dict[str, nn.Parameter]:
    """The adapter's parameters, sorted by their names in adapter_model.safetensors."""
    marker = f".{model.active_adapter}."
    found = {
        name.replace(marker, "."): parameter
        for name, parameter in model.named_parameters()
        if marker in name and (".lora_A." in name or ".lora_B." in name)
    }
    return dict(sorted(found.items()))


def check_trainable(model: Any, *, expected: set[str]) -> None:
    """Raise ModelError unless exactly the weights in `expected` require gradients.

    Loading an adapter can change that (peft#3580).
    """
    marker = f".{model.active_adapter}."
    trainable = {name.replace(marker, ".") for name, weight in model.named_parameters() if weight.requires_grad}
    if wrong := sorted(trainable ^ expected):
        raise ModelError(
            f"Expected exactly {len(expected)} trainable LoRA weights, found {len(trainable)} trainable weights. "
            f"They differ in {', '.join(wrong[:5])}"
        )


def save_adapter(loaded: Loaded, directory: Path) -> None:
    """Write the two files that MAX Serve and peft load. Equal weights give equal bytes."""
    tensors = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
    adapters.write(directory, tensors, base=loaded.base, revision=loaded.revision, shape=loaded.lora)


def _config(lora: sections.Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _initialise(model: PeftModel, seed: int) -> None:
    """Initialise A as peft does (Kaiming uniform, a = √5: uniform on ±1/√d_in), from our own generator; B = 0.

    Drawn on the CPU in name order, so that every process and device gets the same A.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lora_weights(model).items():
        fresh = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
        parameter.data.copy_(fresh)


def _fill(model: PeftModel, tensors: dict[str, torch.Tensor], directory: Path) -> None:
    weights = lora_weights(model)
    if wrong := sorted(weights.keys() ^ tensors.keys()):
        raise ModelError(
            f"Expected this base model's {len(weights)} LoRA weights in {directory}, found {len(tensors)} tensors. "
            f"They differ in {', '.join(wrong[:5])}: was the adapter trained on another base model?"
        )
    for name, parameter in weights.items():
        if parameter.shape != tensors[name].shape:
            raise ModelError(
                f"Expected {name} of shape {tuple(parameter.shape)}, found {tuple(tensors[name].shape)}: "
                f"the adapter in {directory} was trained on another base model"
            )
        parameter.data.copy_(tensors[name])
