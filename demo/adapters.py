"""Which adapter files MAX Serve 26.7.0 accepts, and how it answers the others.

It reads only `r`, `lora_alpha`, `target_modules` and `bias` of the configuration. It does not notice rsLoRA, patterns,
the base model's name or wrong shapes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

SERVABLE = {"q_proj", "k_proj", "v_proj", "o_proj"}


class Refused(Exception):
    """The server refuses the request with this HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Truncated(Exception):
    """The weights file is truncated: the real server maps it into memory and dies."""


@dataclass(frozen=True)
class AdapterFiles:
    """`config` holds what the server applies; `tensors` maps PEFT's names to weights."""

    config: LoraConfig
    tensors: dict[str, torch.Tensor]

    @property
    def finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.tensors.values())


def read(path: str, *, max_rank: int) -> AdapterFiles:
    """Read an adapter. Raises Refused with the server's answer, or Truncated where the server would crash."""
    if not Path(path).is_dir():
        raise Refused(
            400,
            f"Invalid LoRA adapter path: '{path}'. Path must exist locally (remote repositories are not supported)",
        )
    try:
        return _parse(Path(path), max_rank)
    except SafetensorError as error:
        raise Truncated(path) from error
    except ValueError as error:
        raise Refused(
            400,
            f"Invalid LoRA adapter at '{path}'. Ensure the adapter has the correct format and required files",
        ) from error
    except (KeyError, TypeError, RuntimeError) as error:
        raise Refused(500, f"Unexpected error loading LoRA adapter: {error}") from error


def _parse(path: Path, max_rank: int) -> AdapterFiles:
    if not (path / "adapter_config.json").is_file():
        raise ValueError("no adapter_config.json")
    config = json.loads((path / "adapter_config.json").read_text())
    if config.get("bias", "none") != "none":
        raise ValueError("bias")
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ValueError("no safetensors")
    tensors = {key: tensor for file in files for key, tensor in load_file(file).items()}
    alpha, rank = config["lora_alpha"], config["r"]
    if rank > max_rank:
        raise ValueError("rank")
    for key, tensor in tensors.items():
        _check_tensor(key, tensor, rank, max_rank)
    if unknown := set(config["target_modules"]) - SERVABLE:
        raise ValueError(f"targets {unknown}")
    return AdapterFiles(LoraConfig(r=rank, lora_alpha=alpha, target_modules=config["target_modules"]), tensors)


def _check_tensor(key: str, tensor: torch.Tensor, rank: int, max_rank: int) -> None:
    if tensor.dtype == torch.bfloat16:
        raise RuntimeError("Unsupported dtype in DLTensor.")
    if "lora_A" not in key and "lora_B" not in key and "lora.bias" not in key:
        raise ValueError(f"tensor {key}")
    # The real server copies, and so compares, only tensors that are narrower than the slot.
    if rank < max_rank and tensor.shape[0 if "lora_A" in key else 1] != rank:
        raise ValueError(f"shape of {key}")
