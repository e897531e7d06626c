"""Every adapter that a server must not load is refused, with a reason that names what was found."""

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from learning_engine.errors import PreflightError
from learning_engine.records.contracts import LoraShape
from learning_engine.serving import adapter_check

SHAPE = LoraShape(rank=16, alpha=32, target_modules=("k_proj", "o_proj", "q_proj", "v_proj"))
PREFIX = "base_model.model.model.layers"
Q_A, Q_B = f"{PREFIX}.0.self_attn.q_proj.lora_A.weight", f"{PREFIX}.0.self_attn.q_proj.lora_B.weight"

Weights = dict[str, np.ndarray]


def check(adapter: Path, base: Path, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "base_model": str(base),
        "base_revision": "abc",
        "lora": SHAPE,
        "max_lora_rank": 16,
        "base_config": base / "config.json",
    }
    adapter_check.check(adapter, **{**arguments, **changes})


def test_an_adapter_saved_by_peft_passes(adapter: Path, base: Path) -> None:
    (adapter / "README.md").write_text("# A card")
    check(adapter, base)
    check(adapter, base, base_config=None)


def test_only_adapters_that_the_server_computes_correctly_pass(adapters: Path, base: Path) -> None:
    passed = set()
    for adapter in adapters.iterdir():
        with contextlib.suppress(PreflightError):
            check(adapter, base)
            passed.add(adapter.name)
    assert passed == {"good", "other", "float16"}


def test_half_precision_passes(adapter: Path, base: Path) -> None:
    change_weights(adapter, lambda weights: weights.update({k: v.astype(np.float16) for k, v in weights.items()}))
    check(adapter, base)


@pytest.mark.parametrize(
    ("targets", "base_config"), [(("q_proj",), True), (("o_proj",), False), (("k_proj", "v_proj"), False)]
)
def test_fewer_targets_pass(adapter: Path, base: Path, targets: tuple[str, ...], base_config: bool) -> None:
    change_weights(
        adapter, lambda weights: [weights.pop(key) for key in list(weights) if key.split(".")[6] not in targets]
    )
    change_config(adapter, lambda config: config.update(target_modules=list(targets)))
    shape = replace(SHAPE, target_modules=targets)
    check(adapter, base, lora=shape, base_config=base / "config.json" if base_config else None)


def change_config(adapter: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def change_weights(adapter: Path, change: Callable[[Weights], Any]) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file(weights, path)


CONFIGS = {
    "peft_type": "LOHA",
    "bias": "lora_only",
    "base_model_name_or_path": "another/model",
    "revision": "def",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": "all-linear",
    "init_lora_weights": "pissa",
    "use_rslora": True,
    "use_dora": True,
    "rank_pattern": {"q_proj": 8},
    "alpha_pattern": {"q_proj": 8},
    "modules_to_save": ["lm_head"],
    "layers_to_transform": [0],
    "fan_in_fan_out": True,
    "trainable_token_indices": [1],
    "a_method_of_next_year": True,
}


@pytest.mark.parametrize("key", CONFIGS)
def test_configuration(adapter: Path, base: Path, key: str) -> None:
    change_config(adapter, lambda config: config.update({key: CONFIGS[key]}))
    with pytest.raises(PreflightError, match=rf"adapter_config\.json, {key}: expected .*, found "):
        check(adapter, base)


@pytest.mark.parametrize("key", ["r", "target_modules", "bias", "peft_type", "base_model_name_or_path", "lora_alpha"])
def test_configuration_without(adapter: Path, base: Path, key: str) -> None:
    change_config(adapter, lambda config: config.pop(key))
    with pytest.raises(PreflightError, match=rf"adapter_config\.json, {key}: expected .*, found "):
        check(adapter, base)


@pytest.mark.parametrize(
    "targets",
    [[], ["q_proj"], [*SHAPE.target_modules, "q_proj"], ["k_proj", "o_proj", "q_proj", "down_proj"], [1], None, "q"],
)
def test_targets(adapter: Path, base: Path, targets: Any) -> None:
    change_config(adapter, lambda config: config.update(target_modules=targets))
    with pytest.raises(PreflightError, match="target_modules: expected"):
        check(adapter, base)


def test_a_target_that_the_server_does_not_support(adapter: Path, base: Path) -> None:
    targets = (*SHAPE.target_modules, "down_proj")
    change_config(adapter, lambda config: config.update(target_modules=list(targets)))
    with pytest.raises(PreflightError, match="target_modules: expected some of"):
        check(adapter, base, lora=replace(SHAPE, target_modules=targets))


def test_rank_above_the_limit(adapter: Path, base: Path) -> None:
    with pytest.raises(PreflightError, match=r"at most serving\.max_lora_rank = 8, found 16"):
        check(adapter, base, max_lora_rank=8)


def _rename(weights: Weights, old: str, new: str) -> None:
    weights[new] = weights.pop(old)


def _put(weights: Weights, value: float) -> None:
    weights[Q_A][3, 5] = value


WEIGHTS: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "the first layer missing": (lambda w: [w.pop(k) for k in list(w) if "layers.0" in k], "layer 0, .*no such tensor"),
    "no tensors": (lambda w: w.clear(), "expected tensors, found none"),
    "an extra layer": (lambda w: w.update({Q_A.replace(".0.", ".2."): w[Q_A]}), "layer 2, .*no such tensor"),
    "lora_B missing": (lambda w: w.pop(Q_B), "layer 0, q_proj.lora_B: expected .*, found no such tensor"),
    "MLP": (lambda w: w.update({Q_A.replace("self_attn.q", "mlp.down"): w[Q_A]}), "only lora_A and lora_B"),
    "another module": (lambda w: _rename(w, Q_A, Q_A.replace("q_proj", "qkv_proj")), "only lora_A and lora_B"),
    "DoRA's magnitude": (lambda w: w.update({Q_A.replace("lora_A", "lora_magnitude_vector"): w[Q_A]}), "only lora_A"),
    "embeddings": (lambda w: w.update({"base_model.model.lm_head.weight": w[Q_A]}), "only lora_A and lora_B"),
    "rank": (lambda w: w.update({Q_A: w[Q_A][:8].copy()}), r"expected \[16, 64\], found \[8, 64\]"),
    "width": (lambda w: w.update({Q_B: w[Q_B][:60].copy()}), r"expected \[64, 16\], found \[60, 16\]"),
    "transposed": (lambda w: w.update({Q_A: w[Q_A].T.copy()}), r"expected \[16, 64\], found \[64, 16\]"),
    "a vector": (lambda w: w.update({Q_A: w[Q_A].ravel()}), "expected a matrix"),
    "zero width": (lambda w: w.update({Q_A: w[Q_A][:, :0].copy()}), r"expected a matrix, found shape \[16, 0\]"),
    "NaN": (lambda w: _put(w, np.nan), "q_proj.lora_A.weight: expected finite values"),
    "infinity": (lambda w: _put(w, -np.inf), "q_proj.lora_A.weight: expected finite values"),
    "half NaN": (lambda w: (_put(w, np.nan), w.update({Q_A: w[Q_A].astype(np.float16)})), "expected finite values"),
    "double precision": (
        lambda w: w.update({Q_A: w[Q_A].astype(np.float64)}),
        "expected .* as one of F32, F16, found 'F64'",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(adapter: Path, base: Path, name: str) -> None:
    change, reason = WEIGHTS[name]
    change_weights(adapter, change)
    with pytest.raises(PreflightError, match=reason):
        check(adapter, base)
    with pytest.raises(PreflightError):
        check(adapter, base, base_config=None)


def test_a_missing_last_layer(adapter: Path, base: Path) -> None:
    change_weights(adapter, lambda weights: [weights.pop(key) for key in list(weights) if "layers.1" in key])
    with pytest.raises(PreflightError, match=r"layer 1, k_proj\.lora_A: expected .*, found no such tensor"):
        check(adapter, base)


def test_a_base_model_with_other_widths(adapter: Path, base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"num_key_value_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PreflightError, match=re.escape("k_proj.lora_B: expected [64, 16], found [32, 16]")):
        check(adapter, base, base_config=tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PreflightError, match="sizes of a Llama's attention"):
        check(adapter, base, base_config=tmp_path / "config.json")
