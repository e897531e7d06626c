"""Time our Fisher information and that of other libraries against a plain forward and backward pass.

    .venv/bin/python benchmarks/fisher_speed.py

All run on one model and data set in one process: our structures, a batch-of-one loop, torch.func (vmap of grad), Opacus
(GradSampleModule) and nngeometry, with logits at supervised positions only. Ours runs packed batches; the others run
padded ones, because they separate rows by the batch's first axis. The plain pass runs packed and computes the gradients
of the LoRA weights, summed over the batch. For comparison, it also runs padded, and in the usual form
`model(labels=…).loss`. `ratio` is relative to the plain pass of the same round, the median over rounds. `cosine` is to
the batch-of-one loop, the mean over tensors; below 1, the contestant computes another quantity.
Prints a table; writes benchmarks/results/fisher_speed.json.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import argparse
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import report, shapes, timing
from peers import environment, per_sequence
from peers import fisher as peers

from learning_engine.config import sections
from learning_engine.learning import fisher, packing
from learning_engine.learning.batches import Row, Rows, collate, longest_first
from learning_engine.learning.model import Loaded

PLAIN = "plain forward and backward"
OURS = {"diagonal": 1.15, "kronecker": 1.5}
COLUMNS = {"what": "", "structure": "structure", "seconds": "s", "ratio": "÷ plain", "cosine": "cosine"}
Tensors = dict[str, torch.Tensor]
Key = tuple[str, str]
Contestant = Callable[[], Any]


def contestants(
    loaded: Loaded, packed: Loaded, examples: Any, batch: int, available: dict[str, bool], seed: int
) -> dict[Key, Contestant]:
    """The contestants by name and structure, in table order. `packed` equals `loaded`, but may run packed batches."""
    rows = Rows(examples)
    batches = [
        [rows[index] for index in chosen]
        for chosen in longest_first(rows.lengths, np.arange(len(rows)), batch_size=batch)
    ]
    flat = [row for each in batches for row in each]
    found: dict[Key, Contestant] = {
        (PLAIN, "–"): functools.partial(plain, packed.model, batches),
        ("the same on padded batches", "–"): functools.partial(plain, loaded.model, batches),
        ("model(labels=…).loss and backward", "–"): functools.partial(full, loaded.model, batches),
    }
    for structure in OURS:
        for labels in ("observed", "sampled"):
            settings = sections.Fisher(structure=structure, labels=labels, draws=1, batch_size=batch)
            found[f"ours, labels {labels}", structure] = functools.partial(ours, packed, examples, settings, seed)
    found["batch-of-one loop", "diagonal"] = functools.partial(peers.one_by_one, loaded.model, flat)
    found["batch-of-one loop", "kronecker"] = functools.partial(peers.factors, loaded.model, flat)
    found["torch.func vmap of grad", "diagonal"] = functools.partial(per_sequence.vmap, loaded.model, batches)
    if available["opacus"]:
        found["Opacus", "diagonal"] = functools.partial(per_sequence.opacus, loaded.model, batches)
    if available["nngeometry"]:
        for structure in OURS:
            found["nngeometry", structure] = functools.partial(
                per_sequence.nngeometry, loaded.model, batches, structure=structure
            )
    return found


def plain(model: Any, batches: Sequence[Sequence[Row]]) -> None:
    for batch in batches:
        torch.autograd.backward(peers.token_losses(model, batch).sum())
        model.zero_grad()


def full(model: Any, batches: Sequence[Sequence[Row]]) -> None:
    device = next(model.parameters()).device
    for batch in batches:
        tensors = collate(batch)
        ids, labels = (tensors[name].to(device) for name in ("input_ids", "labels"))
        torch.autograd.backward(model(input_ids=ids, labels=labels, use_cache=False).loss)
        model.zero_grad()


def ours(loaded: Loaded, examples: Any, settings: sections.Fisher, seed: int) -> Tensors:
    return fisher.compute(loaded, examples, settings, seed=seed, guards="base").tensors


def cosines(found: dict[Key, Any]) -> dict[Key, float | None]:
    """Each contestant's cosine to the batch-of-one loop, averaged over the tensors."""
    return {
        (name, structure): None if structure == "–" else _cosine(tensors, found["batch-of-one loop", structure])
        for (name, structure), tensors in found.items()
    }


def _cosine(found: Tensors, exact: Tensors) -> float:
    pairs = [(tensor.cpu().flatten().double(), exact[name].cpu().flatten().double()) for name, tensor in found.items()]
    return statistics.mean(float(torch.nn.functional.cosine_similarity(*pair, dim=0)) for pair in pairs)


def targets(rows: Sequence[dict[str, Any]]) -> list[report.Target]:
    ratio = {(row["what"], row["structure"]): row["ratio"] for row in rows}
    found = []
    for structure, bound in OURS.items():
        for labels in ("observed", "sampled"):
            name = f"ours, labels {labels}"
            found.append(report.Target(f"{structure}, labels {labels}: ÷ plain", ratio[name, structure], "<=", bound))
        for (peer, kind), theirs in ratio.items():
            if kind == structure and not peer.startswith("ours"):
                mine = ratio["ours, labels observed", structure]
                found.append(report.Target(f"{structure}: {peer} ÷ ours", theirs / mine, ">=", 1.0))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    arguments: argparse.Namespace = report.arguments(__doc__, argv, tiny=True)
    arguments.threads = torch.get_num_threads()
    available = environment.ready("opacus", "nngeometry", install=not arguments.tiny)
    shape = shapes.for_arguments(arguments, replace(shapes.SMALL, layers=4))
    sequences, tokens, batch, repetitions = (12, 12, 4, 1) if arguments.tiny else (32, 128, 8, 3)
    if arguments.device == "cuda" or arguments.full:
        sequences, tokens, batch, repetitions = 128, 512, 16, 5
    loaded, packed = (shapes.loaded(shape, device=arguments.device, seed=arguments.seed) for _ in range(2))
    packing.enable(packed.model.get_base_model())
    examples = shapes.feedback(sequences, tokens=tokens, share=0.38, vocabulary=shape.vocabulary, seed=arguments.seed)
    title = shapes.describe(shape, examples, batch=batch)
    print(f"{title}; {arguments.threads} threads, seed {arguments.seed}, {repetitions} rounds")
    runs = contestants(loaded, packed, examples, batch=batch, available=available, seed=arguments.seed)
    agreement = cosines({key: run() for key, run in runs.items()})
    named = {f"{name}|{structure}": run for (name, structure), run in runs.items()}
    seconds = timing.rounds(named, repetitions=repetitions, device=arguments.device, warm=False)
    rows = [
        {
            "what": name,
            "structure": structure,
            "seconds": statistics.median(seconds[f"{name}|{structure}"]),
            "ratio": timing.ratio(seconds, f"{name}|{structure}", f"{PLAIN}|–"),
            "cosine": agreement[name, structure],
            "all_seconds": seconds[f"{name}|{structure}"],
        }
        for name, structure in runs
    ]
    report.publish(
        "fisher_speed",
        rows=rows,
        targets=targets(rows),
        packages=("torch", "transformers", "peft", *(name for name, there in available.items() if there)),
        arguments=arguments,
        columns=COLUMNS,
        title=title,
    )


if __name__ == "__main__":
    main()
