"""Read and write an adapter's two files, adapter_model.safetensors and adapter_config.json.

MAX Serve returns 400 or crashes on most of peft's options, so only the minimum is written: lora_A and lora_B in
float32, an explicit list of target modules, no bias, no DoRA, no rsLoRA, no patterns, no modules to save.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from learning_engine.errors import ModelError
from learning_engine.records.contracts import LoraShape

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PLAIN = {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}


def write(directory: Path, tensors: dict[str, torch.Tensor], *, base: str, revision: str, shape: LoraShape) -> None:
    """Write the adapter. Equal tensors give equal bytes. Raises ModelError if a tensor is not lora_A or lora_B."""
    if others := [name for name in tensors if not name.endswith((".lora_A.weight", ".lora_B.weight"))]:
        raise ModelError(f"Expected lora_A and lora_B weights only, found {', '.join(sorted(others)[:5])}")
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": shape.rank,
        "lora_alpha": int(shape.alpha) if float(shape.alpha).is_integer() else shape.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(shape.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        **PLAIN,
    }
    directory.mkdir(parents=True, exist_ok=True)
    # A single metadata key: safetensors writes several keys in an order that varies between calls.
    safetensors.torch.save_file(plain, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(directory: Path, shape: LoraShape) -> dict[str, torch.Tensor]:
    """The adapter's tensors in float32. Raises ModelError if it is unreadable or not a plain LoRA of `shape`."""
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(directory / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"Expected a readable adapter ({CONFIG}, {WEIGHTS}) in {directory}, found an error: {error}"
        ) from error
    found = _shape(config, directory)
    if found != shape:
        raise ModelError(
            f"Expected the configured LoRA shape {_describe(shape)}, found {_describe(found)} in {directory}: keep "
            "rank, alpha and targets the same along a chain of versions"
        )
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def _shape(config: dict[str, Any], directory: Path) -> LoraShape:
    for key, plain in PLAIN.items():
        if (value := config.get(key)) and value != plain:
            raise ModelError(f"Expected a plain LoRA adapter in {directory}, found {key} = {value!r}")
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not isinstance(config.get("r"), int) or "lora_alpha" not in config:
        raise ModelError(
            f"Expected r, lora_alpha and a list of target_modules in {directory / CONFIG}, found one missing or of "
            "another type"
        )
    return LoraShape(config["r"], float(config["lora_alpha"]), tuple(sorted(targets)))


def _describe(shape: LoraShape) -> str:
    return f"(rank {shape.rank}, alpha {shape.alpha:g}, targets {', '.join(shape.target_modules)})"
