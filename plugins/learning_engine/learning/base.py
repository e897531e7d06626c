"""The base model: weights in the configured precision, tokenizer, and the revision that identifies them."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from learning_engine.config import sections
from learning_engine.errors import ModelError, OutOfMemory
from learning_engine.learning import memory, packing

MIB = 1024**2
WHOLE_FILES_BELOW = 2 * 1024**3


def pick_device(model: sections.Model) -> torch.device:
    if model.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("model.device is 'cuda', but torch finds no CUDA device on this worker: check its queue")
    if model.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def load_tokenizer(model: sections.Model) -> Any:
    """The tokenizer of the base model. Raises ModelError if it cannot be loaded."""
    with _loading(model, "tokenizer"):
        return AutoTokenizer.from_pretrained(model.base, **_origin(model))


def load_base(model: sections.Model, device: torch.device) -> Any:
    """The base model on `device`, in eval mode, weights frozen. Raises ModelError if it cannot be loaded."""
    options: dict[str, Any] = {"dtype": model.dtype if model.dtype == "auto" else getattr(torch, model.dtype)}
    if model.attention != "auto":
        options["attn_implementation"] = model.attention
    if model.quantization != "none":
        options["quantization_config"] = _quantization(model, device)
        options["device_map"] = {"": device}
    with _loading(model, "base model"), quietly():
        base = AutoModelForCausalLM.from_pretrained(model.base, **_origin(model), **options)
        if model.quantization == "none":
            base = base.to(device)
        if model.quantization == "4bit":
            _keep_layout(base)
        packing.enable(base.eval().requires_grad_(False))
    return base


def base_revision(model: sections.Model) -> str:
    """The identifier of the base model's weights: a hub commit, or for a local directory "sha256:" and 16 hex digits.

    The local digest covers the names, sizes and bytes of config.json, tokenizer.json and every *.safetensors file.
    If the safetensors files total 2 GiB or more, only the header and the first and last MiB of each are read.
    Raises ModelError if the model is missing or has no revision.
    """
    directory = Path(model.base)
    if directory.is_dir():
        return _digest(directory)
    with _loading(model, "configuration"):
        config = AutoConfig.from_pretrained(model.base, **_origin(model))
    revision: str | None = getattr(config, "_commit_hash", None) or model.revision
    if revision is None:
        raise ModelError(f"Expected the model hub to give a commit of {model.base}, found none: set model.revision")
    return revision


def _origin(model: sections.Model) -> dict[str, Any]:
    if Path(model.base).is_dir():
        return {"local_files_only": True}
    return {"revision": model.revision} if model.revision else {}


def _keep_layout(base: Any) -> None:
    """Stop bitsandbytes from changing the layout of 4-bit weights: on a CPU with bfloat16 support it does so at the
    first pass without gradients, and every later gradient is wrong."""
    from bitsandbytes.nn import Linear4bit

    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _quantization(model: sections.Model, device: torch.device) -> BitsAndBytesConfig:
    if model.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    automatic = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    compute = automatic if model.dtype == "auto" else getattr(torch, model.dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


@contextlib.contextmanager
def _loading(model: sections.Model, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        if memory.ran_out(error):
            raise OutOfMemory(
                f"Expected enough memory for the {what} {model.base!r}, found too little: {error}. Set "
                "model.quantization or model.dtype, or give the worker more (worker.gpu_memory_fraction)."
            ) from error
        raise ModelError(
            f"Expected the {what} of {model.base!r} (revision {model.revision or 'default'}) to load from a directory "
            f"or the model hub, found an error: {error}. Check model.base and model.revision"
        ) from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep progress bars and FutureWarnings of the libraries out of the task's log."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            if shown:
                transformers.utils.logging.enable_progress_bar()


def _digest(directory: Path) -> str:
    weights = sorted(directory.glob("*.safetensors"))
    if not weights or not (directory / "config.json").is_file():
        raise ModelError(
            f"Expected config.json and *.safetensors in the base model's directory {directory}, found them missing: "
            "check model.base"
        )
    total = sum(path.stat().st_size for path in weights)
    digest = hashlib.sha256()
    for path in (directory / "config.json", directory / "tokenizer.json", *weights):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if path.suffix != ".safetensors" or total < WHOLE_FILES_BELOW:
                while block := file.read(MIB):
                    digest.update(block)
            else:
                header = 8 + int.from_bytes(file.read(8), "little")
                file.seek(0)
                digest.update(file.read(max(header, MIB)))
                file.seek(max(0, size - MIB))
                digest.update(file.read())
    return f"sha256:{digest.hexdigest()[:16]}"
