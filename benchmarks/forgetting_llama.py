"""Four weeks of new facts in a tiny Llama: what each method learns, and what it keeps of the weeks and of the base.

    .venv/bin/python benchmarks/forgetting_llama.py

4 layers, d = 128, grouped-query attention, LoRA of rank 16 on q, k, v, o (the layers that MAX Serve supports). The base
knows 100 facts; each week adds 30, each in 8 phrasings, with 150 optimizer steps. Fisher information is measured on
2,048 rows of the base and on the 240 of each week, per supervised token. Labels are sampled and smoothed, except for
the batched square (observed) and the row "labels not smoothed". Only methods with replay or anchors see old rows again.
Writes benchmarks/results/forgetting_llama.json and .png; takes at most 45 minutes on two idle cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report
from forgetting import lessons, study, world
from forgetting.methods import USUAL, Method

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj")
DIAGONALS = ("textbook EWC (diagonal, exact)", "batched square (Avalanche)", "ΔW diagonal (EWC-LoRA)")
KRONECKER, REPLAY = "Kronecker", "replay of 16"
METHODS = (
    Method("nothing", lambdas=(0.0,)),
    Method(DIAGONALS[0], "diagonal", lambdas=(30.0, 60.0, 150.0)),
    Method(DIAGONALS[1], "batched", lambdas=(1e5, 1e6, 1e7)),
    Method(DIAGONALS[2], "delta", lambdas=(100.0, 200.0, 400.0)),
    Method(KRONECKER, "kronecker", lambdas=USUAL),
    Method(f"{KRONECKER}, labels not smoothed", "kronecker_unsmoothed", lambdas=(100.0, 1e3, 1e4)),
    Method(REPLAY, replay=16, lambdas=(0.0,)),
    Method(f"{KRONECKER} + {REPLAY}", "kronecker", replay=16, lambdas=USUAL),
    Method(f"{KRONECKER} + 64 anchors", "kronecker", anchors=64, lambdas=USUAL),
)


def build(seed: int, quick: bool, folder: Path) -> world.World:
    """The world of `seed`. Its base model is trained once and cached in `folder`."""
    return of_facts(lessons.Language(), [100, 30, 30] if quick else [100, 30, 30, 30, 30], folder, seed=seed, steps=150)


def of_facts(
    language: lessons.Language, counts: Sequence[int], folder: Path, *, seed: int, steps: int = 0
) -> world.World:
    """A base that knows the first of `counts` facts, and a week for each other count."""
    known, *weeks = lessons.facts(language, list(counts), seed=seed)
    base_rows = lessons.rows(language, known, range(language.phrasings), limit=2048, seed=seed)
    base = world.make_base(
        folder / f"base-{seed}", len(language.words()), base_rows, world.Pretraining(steps=200), seed=seed, **SHAPE
    )
    taught = tuple(lessons.rows(language, week, range(8), seed=seed) for week in weeks)
    return world.World(
        load=world.adapter_loader(base, LAYERS, rank=16),
        known=base_rows,
        known_test=base_rows.select(range(480)),
        weeks=taught,
        tests=taught,
        score=world.row_accuracy,
        steps=steps,
        batch_size=32,
    )


def targets(table: Sequence[dict[str, Any]]) -> list[report.Target]:
    """The targets, for the medians over the reported seeds."""
    found = {row["method"]: row for row in table}
    able = [found[name]["kept"] for name in DIAGONALS if found[name]["learned"] >= 0.95]
    best = max(able, default=None)
    kept = found[KRONECKER]["kept"]
    anchored = found[f"{KRONECKER} + 64 anchors"]
    return [
        report.Target("Kronecker: learned", found[KRONECKER]["learned"], ">=", 0.95),
        report.Target("Kronecker: kept", kept, ">=", 0.65),
        report.Target(
            "Kronecker: kept, of the best diagonal's", found[KRONECKER]["kept"] / best if best else None, ">=", 1.5
        ),
        report.Target("Kronecker + replay: kept", found[f"{KRONECKER} + {REPLAY}"]["kept"], ">=", 0.85),
        report.Target("Kronecker: base", found[KRONECKER]["base"], ">=", 0.70),
        report.Target("Kronecker + anchors: base", anchored["base"], ">=", 0.95),
    ]


STUDY = study.Study(
    "forgetting_llama",
    build,
    METHODS,
    learning_rates=(5e-3, 8e-3),
    figures=("learned", "kept", "base", "retained"),
    retained="retained",
    slack=0.03,
)

if __name__ == "__main__":
    study.main(STUDY, targets, __doc__)
