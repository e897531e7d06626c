"""The complete MAX Serve 26.7.0 with its LoRA kernel, which needs a GPU, replaced by dense products for the CPU.

    <MAX's environment>/bin/python -P demo/cpu_lora.py serve --model DIR --devices cpu …

Runs in a separate environment with modular==26.7.0, so it imports nothing from this repository. The installed package
is not changed: only this process and its workers use the replacement. MAX spawns its workers, and each one first runs
this file again under another module name. HTTP, scheduler and LoRA manager are MAX's own.
"""

import sys
from typing import Any

from max.dtype import DType  # type: ignore[import-not-found]
from max.experimental import functional as F  # type: ignore[import-not-found]
from max.experimental.nn.common_layers.lora_wrapper import LoRA  # type: ignore[import-not-found]


def slots_of_tokens(x: Any, routing: Any, slots: int) -> Any:
    """One-hot [tokens, slots]: the slot of each token's adapter; a row of zeros means no adapter.

    `routing` has the bounds of groups of tokens, and a slot for each group.
    """
    device, tokens, groups = x.device, x.shape[0], routing.ids.shape[0]
    bounds = F.cast(routing.grouped_offsets, DType.float32)
    first, end = (F.rebind(bound, [groups]).reshape([1, groups]) for bound in (bounds[:-1], bounds[1:]))
    token = F.cast(F.range(0, tokens, 1, out_dim=tokens, dtype=DType.int64, device=device), DType.float32)
    token = token.reshape([tokens, 1])
    member = F.cast(token >= first, DType.float32) * F.cast(token < end, DType.float32)
    wanted = F.cast(routing.ids, DType.float32).reshape([groups, 1])
    slot = F.cast(F.range(0, slots, 1, out_dim=slots, dtype=DType.int64, device=device), DType.float32)
    chosen = F.cast(F.equal(wanted, slot.reshape([1, slots])), DType.float32)
    return F.cast(member @ chosen, x.dtype)


def change(layer: Any, x: Any, a: Any, b: Any) -> Any:
    """What one slot's adapter adds to the layer's output, for every token, including those of other adapters."""
    if not layer.fused:
        return _product(x, a, b)
    parts, rank, begin = [], layer.max_lora_rank, 0
    for place, width in enumerate((layer.q_dim, layer.kv_dim, layer.kv_dim)):
        parts.append(_product(x, a[place * rank : (place + 1) * rank], b[begin : begin + width]))
        begin += width
    return F.concat(parts, axis=-1)


def forward(layer: Any, x: Any) -> Any:
    """Replaces LoRA.forward: computes every adapter for every token; a mask selects the right one."""
    if layer._routing is None:
        raise RuntimeError("Expected the batch's routing to be set, found none: call LoRA.set_lora_batch_info first.")
    a, b, output = layer.lora_a.get(), layer.lora_b.get(), layer.module(x)
    slots = int(a.shape[0])
    mask = slots_of_tokens(x, layer._routing, slots)
    for slot in range(slots):
        output = output + change(layer, x, a[slot], b[slot]) * mask[:, slot : slot + 1]
    return output


def _product(x: Any, a: Any, b: Any) -> Any:
    return (x @ F.transpose(a, 0, 1)) @ F.transpose(b, 0, 1)


LoRA.forward = forward

if __name__ == "__main__":
    from max._entrypoints.pipelines import main  # type: ignore[import-not-found]

    sys.exit(main())
