"""How exact the Fisher information is, and how far common implementations deviate from it.

    .venv/bin/python benchmarks/fisher_exact.py

In float64, the results are compared with the enumeration of every continuation over a vocabulary of six (the
expectation over sampled continuations must be the true Fisher information), and with a batch-of-one loop over padded
rows of varying length. `error` is the largest difference in a tensor, relative to its largest entry. For other
implementations, on the same rows and in their units, `cosine` and `trace` (theirs ÷ exact) are shown. Finally,
`distance` is how far one pass with observed or sampled labels is from the expectation over all labels (relative
2-norm over all tensors). Prints a table; writes benchmarks/results/fisher_exact.json.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
import torch
from common import report, shapes
from peers import enumeration
from peers import fisher as peers

from learning_engine.config import sections
from learning_engine.learning import fisher
from learning_engine.learning.batches import IGNORED, Row, Rows
from learning_engine.learning.model import Loaded

BOUND = 1e-10
VOCABULARY, PROMPT, LENGTH = 6, (0, 1, 2), 3
Tensors = dict[str, torch.Tensor]
Found = list[dict[str, Any]]
COLUMNS = {
    "what": "",
    "against": "against",
    "error": "error",
    "cosine": "cosine",
    "trace": "trace",
    "distance": "distance",
}


def compute(loaded: Loaded, examples: Any, structure: str, batch: int, *, draws: int = 0, seed: int = 0) -> Tensors:
    """Our Fisher information from observed labels, or from `draws` draws of sampled labels."""
    sampled = {"labels": "sampled", "draws": draws, "smoothing": 0.0}
    labels: dict[str, Any] = sampled if draws else {"labels": "observed"}
    settings = sections.Fisher(structure=structure, batch_size=batch, **labels)
    return fisher.compute(loaded, examples, settings, seed=seed, guards="base").tensors


def by_enumeration(loaded: Loaded, prompt: Sequence[int], length: int) -> Found:
    """The expectation over all continuations of our result for each, compared with the sum over tokens."""
    ours: dict[str, Tensors] = {"diagonal": {}, "kronecker": {}}
    for tokens, probability in enumeration.continuations(loaded.model, prompt, length):
        row = {"input_ids": [*prompt, *tokens], "labels": [IGNORED] * len(prompt) + list(tokens)}
        example = datasets.Dataset.from_list([{**row, "weight": 1.0, "rating": 1}])
        for structure, total in ours.items():
            for name, tensor in unnormalised(compute(loaded, example, structure, 1)).items():
                total[name] = total.get(name, 0) + probability * tensor
    against = f"all {VOCABULARY**length} continuations"
    exact, factors = (
        of(loaded.model, enumeration.of_continuations(loaded.model, prompt, length), tokens=length)
        for of in (enumeration.diagonal, enumeration.partial_traces)
    )
    return [
        compared("ours, diagonal", against, ours["diagonal"], exact),
        compared("ours, kronecker: both traces", against, ours["kronecker"], factors),
    ]


def by_loop(loaded: Loaded, examples: Any, rows: Sequence[Row], batch: int) -> Found:
    exact = peers.one_by_one(loaded.model, rows)
    against = f"a batch-of-one loop, {len(rows)} rows"
    alone, together = (compute(loaded, examples, "kronecker", size) for size in (1, batch))
    others = {
        f"batched square, sum of tokens, batch {batch}": peers.batched(loaded.model, rows, batch=batch),
        f"outputs.loss, batch {batch}": peers.outputs_loss(loaded.model, rows, batch=batch),
        "outputs.loss, batch 1": peers.outputs_loss(loaded.model, rows, batch=1),
        "Mammoth's p(label) weights": peers.mammoth(loaded.model, rows),
    }
    return [
        compared(f"ours, diagonal, batch {batch}", against, compute(loaded, examples, "diagonal", batch), exact),
        compared(f"ours, kronecker: G and C, batch {batch}", against, together, peers.factors(loaded.model, rows)),
        compared(f"ours, kronecker: G and C, batch {batch}", "the same in batches of one", together, alone),
        *(compared(name, against, found, exact) for name, found in others.items()),
    ]


def by_sampling(loaded: Loaded, examples: Any, rows: Sequence[Row], *, draws: Sequence[int], seed: int) -> Found:
    """One pass with sampled or observed labels, compared with the expectation over all labels at these inputs."""
    tokens = sum(row.supervised for row in rows)
    exact = enumeration.diagonal(loaded.model, enumeration.of_labels(loaded.model, rows), tokens=tokens)
    traces = enumeration.partial_traces(loaded.model, enumeration.of_labels(loaded.model, rows), tokens=tokens)
    against = f"all labels, {len(rows)} rows"
    found: Found = []
    for count in (0, *draws):
        labels = f"labels sampled, {count} draw{'s' * (count > 1)}" if count else "labels observed"
        drawn = compute(loaded, examples, "diagonal", 16, draws=count, seed=seed)
        factors = unnormalised(compute(loaded, examples, "kronecker", 16, draws=count, seed=seed))
        for what, mine, truth in (("diagonal", drawn, exact), ("kronecker", factors, traces)):
            row = compared(f"{what}, {labels}", against, mine, truth)
            found.append({**row, "error": None, "distance": _distance(mine, truth)})
    return found


def unnormalised(tensors: Tensors) -> Tensors:
    """The factors with C multiplied by the trace of its G: expectations need it, because C has a trace of 1."""
    trace = {name: tensors[name[:-1] + "G"].trace() for name in tensors if name.endswith(".C")}
    return {name: tensor * trace.get(name, 1.0) for name, tensor in tensors.items()}


def model_and_rows(
    shape: shapes.Shape, sequences: int, *, tokens: int, arguments: argparse.Namespace
) -> tuple[Loaded, datasets.Dataset, list[Row]]:
    loaded = shapes.loaded(shape, device=arguments.device, seed=arguments.seed)
    _widen_norms(loaded.model)
    examples = shapes.feedback(sequences, tokens=tokens, share=0.38, vocabulary=shape.vocabulary, seed=arguments.seed)
    rows = Rows(examples)
    return loaded, examples, [rows[index] for index in range(len(rows))]


def compared(what: str, against: str, found: Tensors, exact: Tensors) -> dict[str, Any]:
    if found.keys() != exact.keys():
        raise SystemExit(f"Expected the same tensors of {what} and of {against}, found {found.keys() ^ exact.keys()}")
    worst = max(float((found[name] - tensor).abs().max() / tensor.abs().max()) for name, tensor in exact.items())
    ours, theirs = _flat(found, exact), _flat(exact, exact)
    cosine = float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0))
    return {
        "what": what,
        "against": against,
        "error": worst,
        "cosine": cosine,
        "trace": float(_trace(found) / _trace(exact)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    arguments: argparse.Namespace = report.arguments(__doc__, argv, tiny=True)
    arguments.threads = torch.get_num_threads()
    length = 2 if arguments.tiny else LENGTH
    sequences = 8 if arguments.tiny else 256 if arguments.full else 64
    exact = replace(shapes.TINY, dtype=torch.float64)
    print(f"float64 on {arguments.device}, {arguments.threads} threads, seed {arguments.seed}")
    few = replace(exact, vocabulary=VOCABULARY)
    loaded, examples, flat = model_and_rows(few, sequences, tokens=12, arguments=arguments)
    rows = by_enumeration(loaded, PROMPT, length)
    sampled = by_sampling(loaded, examples, flat, draws=(1, 4, 16, 64), seed=arguments.seed)
    loaded, examples, flat = model_and_rows(exact, sequences, tokens=24, arguments=arguments)
    rows += by_loop(loaded, examples, flat, 16)
    targets = [
        report.Target(f"{row['what']}, against {row['against']}: error", row["error"], "<=", BOUND)
        for row in rows
        if row["what"].startswith("ours")
    ]
    report.publish(
        "fisher_exact",
        rows=rows + sampled,
        targets=targets,
        packages=("torch", "transformers", "peft"),
        arguments=arguments,
        columns=COLUMNS,
        title=f"Fisher information in float64 (exact: error ≤ {BOUND:g})",
    )


def _widen_norms(model: torch.nn.Module) -> None:
    """Replace Llama's norms, which always compute in float32 and would hide differences below 1e-8."""
    for name, module in list(model.named_modules()):
        if name.endswith("norm"):
            wide = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon)
            wide.weight = module.weight
            model.set_submodule(name, wide)


def _flat(tensors: Tensors, order: Tensors) -> torch.Tensor:
    return torch.cat([tensors[name].flatten() for name in order])


def _trace(tensors: Tensors) -> torch.Tensor:
    """The sum of a diagonal, or the sum of the traces of Kronecker factors."""
    traces = [each.trace() if name.endswith((".G", ".C")) else each.sum() for name, each in tensors.items()]
    return torch.stack(traces).sum()


def _distance(found: Tensors, exact: Tensors) -> float:
    """The relative distance over all tensors, in the 2-norm."""
    return float((_flat(found, exact) - _flat(exact, exact)).norm() / _flat(exact, exact).norm())


if __name__ == "__main__":
    main()
