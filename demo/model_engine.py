"""A causal language model with adapters loaded at run time, and MAX Serve 26.7.0's hazards as switches.

Every forward step holds the one lock and activates its adapter, so requests of different adapters interleave safely.
With all hazards on, the state is that of the real server: a registry of loaded adapters, a list of names that grows
with every load, and a cache of packed weights with the name as its only key.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from peft import inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from demo import adapters
from demo.adapters import Refused

HAZARDS = {
    "stale-weights": "a name that was unloaded and loaded again keeps its old weights",
    "phantom": "a name loaded twice and unloaded once stays listed, answers as base, and crashes next to an adapter",
    "unload-in-flight": "a running request whose adapter is unloaded continues as base, and crashes next to an adapter",
    "fragile": "truncated weights crash it at load; wrong shapes and non-finite values, at the first request",
}


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter. `key` is peft's name of the weights; `broken` ones crash the server that uses them."""

    path: str
    key: str
    broken: bool


class Engine:
    """The base model in `directory`, served as `name`, with adapters of rank `max_rank` at most.

    `max_loras=0` is a server without LoRA. Otherwise any number can be loaded, as in the real server, which swaps them.
    """

    def __init__(self, directory: Path, name: str, *, max_loras: int, max_rank: int, hazards: frozenset[str]) -> None:
        self.name, self.max_loras, self.max_rank, self.hazards = name, max_loras, max_rank, hazards
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.max_length: int = self._model.config.max_position_embeddings
        self._lock = threading.Lock()
        self._keys = count()
        self._loaded: dict[str, Adapter] = {}
        self._listed: list[str] = []
        self._running: Counter[str] = Counter()
        self._packed: tuple[str, Adapter] | None = None

    def models(self) -> list[str]:
        """The base model, then each adapter once per load without an unload."""
        return [self.name, *self._listed]

    def load(self, name: str, path: str) -> None:
        """Load an adapter. Raises Refused with the real server's status and message."""
        self._require_lora()
        with self._lock:
            # The real server passes "name=path" on and splits it at the first "=".
            registered, _, path = f"{name}={path}".partition("=")
            known = self._loaded.get(registered)
            if known is None:
                self._loaded[registered] = self._read(path)
            elif known.path != path:
                raise Refused(409, f"LoRA adapter name '{name}' already exists with different path")
            if known is None or "phantom" in self.hazards:
                self._listed.append(name)

    def unload(self, name: str) -> None:
        """Unload an adapter. Raises Refused if `name` is not loaded."""
        self._require_lora()
        with self._lock:
            if name not in self._loaded:
                raise Refused(404, f"LoRA adapter '{name}' not found")
            del self._loaded[name]
            self._listed.remove(name)

    def generate(
        self, name: str, prompt: list[int], *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[int]:
        """Token ids up to, and without, the end of the turn; greedy at temperature 0. `name` must be listed."""
        initial = self._loaded.get(name)
        sampler = torch.Generator()
        sampler.manual_seed(seed) if seed is not None else sampler.seed()
        ends, ids, cache = self._end_tokens(), torch.tensor([prompt]), DynamicCache()
        with self._lock:
            self._running[name] += 1
        try:
            for _ in range(max_tokens):
                with self._lock, torch.inference_mode():
                    self._activate(self._weights(name, initial))
                    logits = self._model(ids, past_key_values=cache, use_cache=True).logits[0, -1]
                token = _choose(logits, temperature, sampler)
                if token in ends:
                    return
                yield token
                ids = torch.tensor([[token]])
        finally:
            with self._lock:
                self._running[name] -= 1

    def decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _require_lora(self) -> None:
        if not self.max_loras:
            raise Refused(
                501,
                "LoRA functionality is not enabled on this server. Please restart the server with LoRA enabled.",
            )

    def _read(self, path: str) -> Adapter:
        self._delete_unused()
        key = f"adapter{next(self._keys)}"
        try:
            files = adapters.read(path, max_rank=self.max_rank)
        except adapters.Truncated:
            self._crash_or_refuse(path)
        try:
            inject_adapter_in_model(files.config, self._model, key)
            set_peft_model_state_dict(self._model, files.tensors, adapter_name=key)
            broken = not files.finite
        except RuntimeError:
            broken = True
        if broken and "fragile" not in self.hazards:
            self._crash_or_refuse(path)
        return Adapter(path, key, broken)

    def _crash_or_refuse(self, path: str) -> None:
        if "fragile" in self.hazards:
            os._exit(139)
        raise Refused(
            400, f"Invalid LoRA adapter at '{path}'. Ensure the adapter has the correct format and required files"
        )

    def _weights(self, name: str, initial: Adapter | None) -> Adapter | None:
        """The adapter for the next step; None is the base model."""
        adapter = self._loaded.get(name) if "unload-in-flight" in self.hazards else initial
        if name in ("", self.name):
            adapter = None
        elif adapter is None and self._other_adapter_runs(name):
            os._exit(1)
        if adapter and "stale-weights" in self.hazards and self._packed and self._packed[0] == name:
            return self._packed[1]
        self._packed = (name, adapter) if adapter else None
        return adapter

    def _other_adapter_runs(self, name: str) -> bool:
        return any(self._running[other] for other in self._loaded.keys() - {"", self.name, name})

    def _activate(self, adapter: Adapter | None) -> None:
        if adapter and adapter.broken:
            os._exit(1)
        for layer in self._layers():
            layer.enable_adapters(adapter is not None)
            if adapter:
                layer.set_adapter(adapter.key, inference_mode=True)

    def _end_tokens(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def _layers(self) -> list[LoraLayer]:
        return [module for module in self._model.modules() if isinstance(module, LoraLayer)]

    def _delete_unused(self) -> None:
        """Delete weights that no request can use again."""
        if any(self._running.values()):
            return
        used = {adapter.key for adapter in self._loaded.values()} | {self._packed[1].key if self._packed else ""}
        for layer in self._layers():
            for key in layer.lora_A.keys() - used:
                layer.delete_adapter(key)


def _choose(logits: torch.Tensor, temperature: float, sampler: torch.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=sampler))
