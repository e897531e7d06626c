"""Check an adapter's files before a model server loads them (preflight).

MAX Serve crashes on truncated files, wrong shapes and non-finite values. It silently serves rsLoRA and rank or alpha
patterns with the wrong scale, and accepts adapters of another base model. This check refuses all of these.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from learning_engine.errors import PreflightError
from learning_engine.records.contracts import LoraShape
from learning_engine.serving.tensors import Tensor, all_finite, parse_json, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = {CONFIG, WEIGHTS, "README.md"}
MAX_CONFIG_BYTES = 1 << 20
SERVABLE = {"q_proj", "k_proj", "v_proj", "o_proj"}
TENSOR = re.compile(r"base_model\.model\.model\.layers\.(0|[1-9]\d{0,3})\.self_attn\.(\w+)\.lora_([AB])\.weight")

# Keys that do not affect how the weights are applied, or that are checked separately below.
ALLOWED_KEYS = {
    *("auto_mapping", "inference_mode", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size"),
    *("base_model_name_or_path", "bias", "init_lora_weights", "lora_alpha", "peft_type", "r", "revision"),
    *("target_modules", "task_type"),
}
# Other initialisations change the base model's weights, which the server does not know about.
INITIALISATIONS = (True, False, None, "gaussian")


@dataclass(frozen=True)
class Dimensions:
    """The base model's attention: number of layers, and widths of hidden state, queries, and keys or values."""

    layers: int
    hidden: int
    queries: int
    keys: int

    @classmethod
    def of(cls, base_config: Path) -> Self:
        """Read them from a Llama's `config.json`."""
        config = parse_json(base_config.read_bytes(), base_config)
        try:
            heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
            head = int(config.get("head_dim") or hidden // heads)
            keys = int(config.get("num_key_value_heads") or heads)
            return cls(int(config["num_hidden_layers"]), hidden, heads * head, keys * head)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise PreflightError(
                f"{base_config}: expected the sizes of a Llama's attention, found a config.json without them: "
                "check model.base."
            ) from None

    @classmethod
    def inferred(cls, shapes: dict[tuple[int, str, str], tuple[int, ...]]) -> Self:
        """Infer them from the adapter's first layer, if the base model's config.json is not available."""

        def width(*places: tuple[str, str, int]) -> int:
            return next(
                (shapes[0, target, factor][axis] for target, factor, axis in places if (0, target, factor) in shapes), 0
            )

        return cls(
            layers=1 + max(layer for layer, _, _ in shapes),
            hidden=width(("q_proj", "A", 1), ("k_proj", "A", 1), ("v_proj", "A", 1), ("o_proj", "B", 0)),
            queries=width(("q_proj", "B", 0), ("o_proj", "A", 1)),
            keys=width(("k_proj", "B", 0), ("v_proj", "B", 0)),
        )

    def shape(self, target: str, factor: str, rank: int) -> tuple[int, int]:
        """The shape of lora_A, [rank, in], or lora_B, [out, rank]."""
        width_in = self.queries if target == "o_proj" else self.hidden
        width_out = {"q_proj": self.queries, "o_proj": self.hidden}.get(target, self.keys)
        return (rank, width_in) if factor == "A" else (width_out, rank)


def check(
    directory: Path,
    *,
    base_model: str,
    base_revision: str,
    lora: LoraShape,
    max_lora_rank: int,
    base_config: Path | None = None,
) -> None:
    """Raise PreflightError, naming what was expected and found, unless the server may load the adapter.

    `lora`, `base_model` and `base_revision` are the version's. `base_config` is the base model's config.json; without
    it, the shapes are only compared with each other.
    """
    _check_files(directory)
    config_path = directory / CONFIG
    _expect(config_path.stat().st_size <= MAX_CONFIG_BYTES, CONFIG, f"at most {MAX_CONFIG_BYTES} bytes", "more")
    config = parse_json(config_path.read_bytes(), config_path)
    _check_config(config, base_model, base_revision)
    _check_shape(config, lora, max_lora_rank)
    tensors = read_header(directory / WEIGHTS)
    _check_tensors(tensors, lora, base_config)
    for tensor in tensors:
        _expect(all_finite(directory / WEIGHTS, tensor), tensor.name, "finite values", "infinity or NaN")


def _expect(passed: bool, what: str, expected: Any, found: Any) -> None:
    if not passed:
        raise PreflightError(f"{what}: expected {expected}, found {found}. Do not load this adapter.")


def _check_files(directory: Path) -> None:
    found = {path.name for path in directory.iterdir()}
    for name in (CONFIG, WEIGHTS):
        _expect(name in found, "adapter", f"a file {name}", ", ".join(sorted(found)) or "no file")
    _expect(found <= FILES, "adapter", f"only {', '.join(sorted(FILES))}", ", ".join(sorted(found - FILES)))
    for name in sorted(found):
        path = directory / name
        _expect(path.is_file() and not path.is_symlink(), name, "a regular file", "a link or directory")


def _check_config(config: dict[str, Any], base_model: str, base_revision: str) -> None:
    for key, expected in (("peft_type", "LORA"), ("bias", "none"), ("base_model_name_or_path", base_model)):
        _expect(config.get(key) == expected, f"{CONFIG}, {key}", repr(expected), repr(config.get(key)))
    revision = config.get("revision")
    _expect(revision in (None, base_revision), f"{CONFIG}, revision", repr(base_revision), repr(revision))
    initialisation = config.get("init_lora_weights")
    known = initialisation in INITIALISATIONS
    _expect(known, f"{CONFIG}, init_lora_weights", f"one of {INITIALISATIONS}", repr(initialisation)[:80])
    for key in sorted(config.keys() - ALLOWED_KEYS):
        _expect(not config[key], f"{CONFIG}, {key}", "no value, since the server ignores it", repr(config[key])[:80])


def _check_shape(config: dict[str, Any], lora: LoraShape, max_lora_rank: int) -> None:
    rank = config.get("r")
    _expect(type(rank) is int and rank == lora.rank, f"{CONFIG}, r", lora.rank, repr(rank))
    _expect(lora.rank <= max_lora_rank, "rank", f"at most serving.max_lora_rank = {max_lora_rank}", lora.rank)
    alpha = config.get("lora_alpha")
    _expect(type(alpha) in (int, float) and alpha == lora.alpha, f"{CONFIG}, lora_alpha", lora.alpha, repr(alpha))
    targets = config.get("target_modules")
    explicit = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    _expect(explicit, f"{CONFIG}, target_modules", "an explicit list of names", repr(targets)[:80])
    wanted = sorted(lora.target_modules)
    _expect(bool(targets) and sorted(targets or []) == wanted, f"{CONFIG}, target_modules", wanted, targets)
    _expect(set(wanted) <= SERVABLE, f"{CONFIG}, target_modules", f"some of {sorted(SERVABLE)}", wanted)


def _check_tensors(tensors: list[Tensor], lora: LoraShape, base_config: Path | None) -> None:
    shapes: dict[tuple[int, str, str], tuple[int, ...]] = {}
    for tensor in tensors:
        match = TENSOR.fullmatch(tensor.name)
        known = match is not None and match[2] in lora.target_modules
        _expect(known, WEIGHTS, "only lora_A and lora_B of the attention's target_modules", tensor.name)
        _expect(len(tensor.shape) == 2 and all(tensor.shape), tensor.name, "a matrix", f"shape {list(tensor.shape)}")
        if match:
            shapes[int(match[1]), match[2], match[3]] = tensor.shape
    _expect(bool(shapes), WEIGHTS, "tensors", "none")
    dimensions = Dimensions.of(base_config) if base_config else Dimensions.inferred(shapes)
    wanted = {
        (layer, target, factor): dimensions.shape(target, factor, lora.rank)
        for layer in range(dimensions.layers)
        for target in lora.target_modules
        for factor in "AB"
    }
    for key in sorted(wanted.keys() | shapes.keys()):
        name = f"layer {key[0]}, {key[1]}.lora_{key[2]}"
        expected = list(wanted[key]) if key in wanted else "no such tensor in this base model"
        found = list(shapes[key]) if key in shapes else "no such tensor"
        _expect(expected == found, name, expected, found)
