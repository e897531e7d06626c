"""MAX Serve's LoRA contract as a table of test cases for the local server and the real routes.

A case is a series of requests with its own adapter names, so that cases do not affect each other. In bodies,
`{adapters}` is replaced by the directory that `write_adapters` fills.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import torch
from safetensors.torch import load_file, save_file

from tests import tiny

BASE = "base"
LOAD, UNLOAD, MODELS, CHAT = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/models", "/v1/chat/completions"
ERROR_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    409: "conflict_error",
    500: "api_error",
    501: "api_error",
}
INVALID = r"Invalid LoRA adapter at '.*'\. Ensure the adapter has the correct format and required files"
HELLO = [{"role": "user", "content": "What colour is the house?"}]

Matcher = Callable[[requests.Response], bool]


@dataclass(frozen=True)
class Step:
    method: str
    path: str
    body: dict[str, Any] | str | None
    status: int
    matches: Matcher


@dataclass(frozen=True)
class Case:
    name: str
    steps: Sequence[Step]


def success(message: str) -> Matcher:
    return lambda response: response.json() == {"status": "success", "message": message}


def error(pattern: str = ".*") -> Matcher:
    def matches(response: requests.Response) -> bool:
        found = response.json()["error"]
        shape = {"code": str(response.status_code), "param": "", "type": ERROR_TYPES[response.status_code]}
        message = found.pop("message")
        return found == shape and re.fullmatch(pattern, message, re.DOTALL) is not None

    return matches


def listed(name: str, times: int) -> Matcher:
    def matches(response: requests.Response) -> bool:
        body = response.json()
        names = [model["id"] for model in body["data"]]
        plain = all(model["object"] == "model" and "path" not in model for model in body["data"])
        return body["object"] == "list" and names[0] == BASE and names.count(name) == times and plain

    return matches


def load(name: str, adapter: str, status: int = 200, message: str = ".*") -> Step:
    body = {"lora_name": name, "lora_path": f"{{adapters}}/{adapter}"}
    good = success(f"LoRA adapter '{name}' loaded successfully")
    return Step("POST", LOAD, body, status, good if status == 200 else error(message))


def unload(name: str, status: int = 200, message: str = ".*") -> Step:
    good = success(f"LoRA adapter '{name}' unloaded successfully")
    return Step("POST", UNLOAD, {"lora_name": name}, status, good if status == 200 else error(message))


def models(name: str, times: int) -> Step:
    return Step("GET", MODELS, None, 200, listed(name, times))


def refused(adapter: str, status: int, message: str = INVALID) -> Case:
    steps = (load(f"bad-{adapter}", adapter, status, message), models(f"bad-{adapter}", 0))
    return Case(f"{adapter} is refused", steps)


def accepted(adapter: str) -> Case:
    steps = (load(f"odd-{adapter}", adapter), models(f"odd-{adapter}", 1), unload(f"odd-{adapter}"))
    return Case(f"{adapter} is accepted", steps)


NO_SUCH_PATH = r"Invalid LoRA adapter path: '.*'\. Path must exist locally \(remote repositories are not supported\)"

CASES = [
    Case("health has no body", [Step("GET", "/health", None, 200, lambda response: response.content == b"")]),
    Case("load, list, unload", [load("one", "good"), models("one", 1), unload("one"), models("one", 0)]),
    Case(
        "same name and path: not loaded again, but listed once more",
        [load("two", "good"), load("two", "good"), models("two", 2), unload("two"), models("two", 1)],
    ),
    Case("a phantom cannot be unloaded", [load("p", "good"), load("p", "good"), unload("p"), unload("p", 404)]),
    Case(
        "same name, other path",
        [
            load("three", "good"),
            load("three", "other", 409, "LoRA adapter name 'three' already exists with different path"),
            models("three", 1),
            unload("three"),
        ],
    ),
    Case("more adapters than slots", [load(f"slot{i}", "good") for i in range(4)] + [models("slot3", 1)]),
    Case("path missing", [load("four", "nowhere", 400, NO_SUCH_PATH), models("four", 0)]),
    Case(
        "path in a bucket",
        [Step("POST", LOAD, {"lora_name": "five", "lora_path": "s3://bucket/x"}, 400, error(NO_SUCH_PATH))],
    ),
    Case("name with =", [load("a=b", "good", 400, "Invalid LoRA adapter path.*"), models("a=b", 0)]),
    Case("the base model's name", [load(BASE, "good"), models(BASE, 2), unload(BASE)]),
    Case("an empty name", [load("", "good"), models("", 1), unload("")]),
    Case("unload what is not loaded", [unload("six", 404, "LoRA adapter 'six' not found")]),
    Case(
        "unknown field in a load",
        [Step("POST", LOAD, {"lora_name": "n", "lora_path": "p", "load_inplace": True}, 400, error())],
    ),
    Case("a load without a path", [Step("POST", LOAD, {"lora_name": "n"}, 400, error())]),
    Case("a load that is not JSON", [Step("POST", LOAD, "{", 400, error())]),
    Case("unknown field in an unload", [Step("POST", UNLOAD, {"lora_name": "n", "x": 1}, 400, error())]),
    Case(
        "a loaded adapter is unknown to /v1/models/{name}",
        [load("seven", "good"), Step("GET", MODELS + "/seven", None, 404, error("Not Found")), unload("seven")],
    ),
    Case(
        "the base model in /v1/models/{name}",
        [Step("GET", f"{MODELS}/{BASE}", None, 200, lambda r: r.json()["id"] == BASE)],
    ),
    Case(
        "inference with an unknown model",
        [Step("POST", CHAT, {"model": "eight", "messages": HELLO}, 400, error(r"Value error\."))],
    ),
    Case(
        "unknown field in a chat",
        [Step("POST", CHAT, {"model": BASE, "messages": HELLO, "colour": "red"}, 400, error())],
    ),
    Case("a chat without messages", [Step("POST", CHAT, {"model": BASE, "messages": []}, 400, error())]),
    *(refused(adapter, 400) for adapter in ("mlp", "rank", "bias", "dora", "extra-tensor", "bin", "bad-json")),
    refused("no-config", 400),
    *(refused(adapter, 500, "Unexpected error loading LoRA adapter: .*") for adapter in ("no-r", "no-targets")),
    refused("bfloat16", 500, "Unexpected error loading LoRA adapter: .*"),
    *(accepted(adapter) for adapter in ("float16", "rslora", "alpha-pattern", "other-base", "nan", "wide")),
]
NO_LORA = "LoRA functionality is not enabled on this server. Please restart the server with LoRA enabled."
CASES_WITHOUT_LORA = [
    Case("load without LoRA", [load("one", "good", 501, re.escape(NO_LORA))]),
    Case("unload without LoRA", [unload("one", 501, re.escape(NO_LORA))]),
]


def run(case: Case, url: str, adapters: Path) -> None:
    """Send each request of `case` to the server at `url` and compare status and body."""
    for step in case.steps:
        body = step.body if isinstance(step.body, str) else json.dumps(step.body)
        response = requests.request(
            step.method,
            url + step.path,
            data=body.replace("{adapters}", str(adapters)) if step.body is not None else None,
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        found = (response.status_code, response.text)
        assert response.status_code == step.status, (case.name, step, found)
        assert step.matches(response), (case.name, step, found)


def write_adapters(base: Path, directory: Path) -> Path:
    """Fill `directory` with `good` and `other`, which MAX serves correctly, and one adapter for each defect."""
    good = tiny.make_adapter(base, directory / "good", seed=1)
    tiny.make_adapter(base, directory / "other", seed=2)
    tiny.make_adapter(base, directory / "rank", seed=3, rank=32)
    for name, change in CONFIGS.items():
        config = json.loads((good / "adapter_config.json").read_text())
        change(config)
        (_copy(good, directory / name) / "adapter_config.json").write_text(json.dumps(config))
    for name, tensors in TENSORS.items():
        weights = load_file(good / "adapter_model.safetensors")
        save_file(tensors(weights), _copy(good, directory / name) / "adapter_model.safetensors")
    _copy(good, directory / "bad-json").joinpath("adapter_config.json").write_text("{")
    _copy(good, directory / "no-config").joinpath("adapter_config.json").unlink()
    weights_file = _copy(good, directory / "bin") / "adapter_model.safetensors"
    weights_file.rename(weights_file.with_suffix(".bin"))
    truncated = _copy(good, directory / "truncated") / "adapter_model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    return directory


CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mlp": lambda config: config.update(target_modules=["q_proj", "down_proj"]),
    "bias": lambda config: config.update(bias="lora_only"),
    "no-r": lambda config: config.pop("r"),
    "no-targets": lambda config: config.pop("target_modules"),
    "rslora": lambda config: config.update(use_rslora=True),
    "alpha-pattern": lambda config: config.update(alpha_pattern={"q_proj": 1}),
    "other-base": lambda config: config.update(base_model_name_or_path="another/model"),
}
TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "dora": lambda weights: weights | {next(iter(weights)).replace("lora_A", "lora_magnitude_vector"): torch.ones(64)},
    "extra-tensor": lambda weights: weights | {"base_model.model.lm_head.weight": torch.ones(4, 4)},
    "bfloat16": lambda weights: {name: tensor.bfloat16() for name, tensor in weights.items()},
    "float16": lambda weights: {name: tensor.half() for name, tensor in weights.items()},
    "nan": lambda weights: {name: tensor * float("nan") for name, tensor in weights.items()},
    "wide": lambda weights: {
        name: torch.zeros(tensor.shape[0], tensor.shape[1] + 1) if "_A" in name else tensor
        for name, tensor in weights.items()
    },
}


def _copy(good: Path, directory: Path) -> Path:
    shutil.copytree(good, directory)
    return directory
