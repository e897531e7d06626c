"""Cost of the EWC penalty, value and gradient, by the width of the weights, and its share of a training step.

    .venv/bin/python benchmarks/penalty_cost.py

`one layer` is a d × d weight with a LoRA adapter of rank 16; `attention` is q, k, v and o of that width. The penalties:
the textbook diagonal on the LoRA factors, the diagonal on the weight change ΔW (EWC-LoRA), Kronecker factors on ΔW, and
these sketched to an eighth of their bytes. `held` is the memory that the penalty keeps, `peak` the additional memory of
a call, including gradients. Finally, the penalty is compared with a training step of one layer with d = 2048 at
8 × 512 tokens (forward, backward, AdamW). Both grow with the number of layers, and a real model also has a large output
layer, so a whole model's ratio is at most this one.
Prints a table; writes benchmarks/results/penalty_cost.json.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import argparse
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from common import memory, report, shapes, timing
from peers.weight_change import WeightChangeDiagonal
from torch import nn

from learning_engine.learning import sketch
from learning_engine.learning.diagonal import DiagonalQuadratic
from learning_engine.learning.model import lora_weights
from learning_engine.learning.quadratic import KroneckerQuadratic

RANK, SCALING, SKETCH = 16, 2.0, 8
DIAGONAL, CHANGE, KRONECKER = "diagonal on the factors", "diagonal on ΔW", "Kronecker on ΔW"
SKETCHED = f"Kronecker on ΔW, sketched to 1/{SKETCH}"
LAYERS = {"one layer": ("o_proj",), "attention": ("k_proj", "o_proj", "q_proj", "v_proj")}
CHEAPER, SHARE = 4.0, 0.03
COLUMNS = {
    "what": "",
    "width": "d",
    "penalty": "penalty",
    "milliseconds": "ms",
    "change_ratio": "ΔW diagonal ÷",
    "held_bytes": "held, bytes",
    "peak_bytes": "peak, bytes",
}
Tensors = dict[str, torch.Tensor]


def penalties(names: Sequence[str], width: int, *, device: str, seed: int) -> tuple[dict[str, nn.Module], Tensors]:
    """Every penalty on layers of `width`, anchored at random weights, and other weights to evaluate it at."""
    generator = torch.Generator(device).manual_seed(seed)
    random = functools.partial(torch.randn, generator=generator, device=device)
    anchor: Tensors = {}
    for name in names:
        anchor[f"block.{name}.lora_A.weight"] = random(RANK, width) / width**0.5
        anchor[f"block.{name}.lora_B.weight"] = random(width, RANK) / RANK**0.5
    factors = kronecker_factors(anchor, random)
    factor = next(iter(factors.values()))
    # All factors are the same matrix, so one sketch serves for all.
    small = sketch.fitted({"": factor.cpu()}, factor.numel() * factor.element_size() // SKETCH)
    sketched = {key + part: tensor for key in factors for part, tensor in small.items()}
    diagonal = {name: random(*weight.shape).square() for name, weight in anchor.items()}
    change = {f"block.{name}": random(width, width).square() for name in names}
    found = {
        DIAGONAL: DiagonalQuadratic(diagonal, anchor),
        CHANGE: WeightChangeDiagonal(change, anchor, scaling=SCALING),
        KRONECKER: KroneckerQuadratic(factors, anchor, scaling=SCALING),
        SKETCHED: KroneckerQuadratic(sketched, anchor, scaling=SCALING),
    }
    weights = {name: (weight + 0.01 * random(*weight.shape)).requires_grad_() for name, weight in anchor.items()}
    return found, weights


def kronecker_factors(anchor: Mapping[str, torch.Tensor], random: Callable[..., torch.Tensor]) -> Tensors:
    """Factors G and C of every layer of `anchor`, named as in `kronecker`: one random matrix per width."""
    found: Tensors = {}
    made: dict[int, torch.Tensor] = {}
    for name, weight in anchor.items():
        layer, factor, _ = name.rsplit(".", 2)
        key, width = (f"{layer}.C", weight.shape[1]) if factor == "lora_A" else (f"{layer}.G", weight.shape[0])
        if width not in made:
            vectors = random(width, width) / width**0.5
            made[width] = vectors @ vectors.T
        found[key] = made[width]
    return found


def with_gradient(penalty: nn.Module, weights: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(penalty(weights), list(weights.values()))


def by_width(what: str, width: int, arguments: argparse.Namespace, repetitions: int) -> list[dict[str, Any]]:
    found, weights = penalties(LAYERS[what], width, device=arguments.device, seed=arguments.seed)
    runs = {name: functools.partial(with_gradient, penalty, weights) for name, penalty in found.items()}
    peaks = {name: memory.peak_bytes(run, device=arguments.device) for name, run in runs.items()}
    seconds = timing.rounds(runs, repetitions=repetitions, device=arguments.device)
    return [
        {
            "what": what,
            "width": width,
            "penalty": name,
            "milliseconds": 1000 * statistics.median(seconds[name]),
            "change_ratio": timing.ratio(seconds, CHANGE, name),
            "held_bytes": sum(t.numel() * t.element_size() for t in penalty.state_dict().values()),
            "peak_bytes": peaks[name],
        }
        for name, penalty in found.items()
    ]


def step_share(shape: shapes.Shape, batch: int, tokens: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the Kronecker penalty of a model of `shape` against a training step."""
    loaded = shapes.loaded(shape, device=arguments.device, seed=arguments.seed)
    weights = lora_weights(loaded.model)
    generator = torch.Generator(arguments.device).manual_seed(arguments.seed)
    random = functools.partial(torch.randn, generator=generator, device=arguments.device)
    penalty = KroneckerQuadratic(kronecker_factors(weights, random), weights, scaling=SCALING)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-4)
    ids = torch.randint(0, shape.vocabulary, (batch, tokens), generator=generator, device=arguments.device)

    def step() -> None:
        loaded.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    # Move away from the anchor, where the penalty is zero.
    step()
    runs: dict[str, Callable[[], object]] = {
        "step": step,
        "penalty": functools.partial(with_gradient, penalty, weights),
    }
    seconds = timing.rounds(runs, repetitions=3, device=arguments.device, warm=False)
    return {
        "what": f"{KRONECKER} of {shape.layers} layers in a step of {batch} × {tokens} tokens",
        "width": shape.hidden,
        "penalty": KRONECKER,
        "milliseconds": 1000 * statistics.median(seconds["penalty"]),
        "step_milliseconds": 1000 * statistics.median(seconds["step"]),
        "share": timing.ratio(seconds, "penalty", "step"),
    }


def main(argv: Sequence[str] | None = None) -> None:
    arguments = report.arguments(__doc__, argv, tiny=True)
    arguments.threads = torch.get_num_threads()
    widths = (32, 64) if arguments.tiny else (256, 512, 1024, 2048, *((4096,) if arguments.full else ()))
    print(f"{arguments.threads} threads, seed {arguments.seed}, widths {widths}")
    repetitions = 3 if arguments.tiny else 21
    rows = [row for what in LAYERS for width in widths for row in by_width(what, width, arguments, repetitions)]
    # The proportions of Llama 3.2 1B, one layer of it on a CPU.
    shape = shapes.Shape(1, 2048, 8192, 32, 8, 256)
    if arguments.device == "cuda":
        shape = shapes.Shape(16, 2048, 8192, 32, 8, 128_256, torch.bfloat16)
    step = step_share(shapes.TINY, 2, 16, arguments) if arguments.tiny else step_share(shape, 8, 512, arguments)
    targets = [
        report.Target(f"ΔW diagonal ÷ Kronecker, one layer, d = {row['width']}", row["change_ratio"], ">=", CHEAPER)
        for row in rows
        if row["penalty"] == KRONECKER and row["what"] == "one layer" and row["width"] >= min(1024, max(widths))
    ]
    targets.append(report.Target(f"Kronecker ÷ a step, d = {step['width']}", step["share"], "<=", SHARE))
    report.publish(
        "penalty_cost",
        rows=[*rows, step],
        targets=targets,
        packages=("torch", "transformers", "peft"),
        arguments=arguments,
        columns=COLUMNS,
        title=f"value and gradient, rank {RANK}",
    )
    print(f"a step takes {step['step_milliseconds']:,.0f} ms, its penalty {step['milliseconds']:,.1f} ms")


if __name__ == "__main__":
    main()
