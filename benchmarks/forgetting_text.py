"""Text from any Python installation: a byte model of code and prose learns four other kinds, one per week.

    .venv/bin/python benchmarks/forgetting_text.py

2 layers, d = 128, LoRA of rank 16 on every linear layer, pieces of 64 bytes, all supervised. Scores are
−(bits per byte) on pieces that were not trained on. Forgotten is the mean over the base and the first three weeks of
the best score ever minus the final score, in bits per byte. Each method uses the λ that retains most while it learns
about as well as the others. Writes benchmarks/results/forgetting_text.json and .png; takes at most 45 minutes on two
idle cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import report
from forgetting import study, texts, world
from forgetting.methods import USUAL, Method

SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DIAGONALS = ("textbook EWC (diagonal, exact)", "batched square (Avalanche)", "ΔW diagonal (EWC-LoRA)")
KRONECKER, REPLAY = "Kronecker", "replay of 16"
STRENGTHS = (10.0, 30.0, 60.0)
METHODS = (
    Method("nothing", lambdas=(0.0,)),
    Method(DIAGONALS[0], "diagonal", lambdas=STRENGTHS),
    Method(DIAGONALS[1], "batched", lambdas=(1e2, 1e3, 1e4)),
    Method(DIAGONALS[2], "delta", lambdas=STRENGTHS),
    Method(KRONECKER, "kronecker", lambdas=USUAL),
    Method(REPLAY, replay=16, lambdas=(0.0,)),
    Method(f"{KRONECKER} + {REPLAY}", "kronecker", replay=16, lambdas=USUAL),
    Method(f"{KRONECKER} + 64 anchors", "kronecker", anchors=64, lambdas=USUAL),
)


def build(seed: int, quick: bool, folder: Path) -> world.World:
    """The world of `seed`. Its base model is trained once and cached in `folder`."""
    known, known_test = zip(
        *(texts.rows(text(), window=64, counts=(2048, 100), seed=seed) for text in texts.KNOWN), strict=True
    )
    base_rows = world.shuffled(known, seed=seed)
    base = world.make_base(
        folder / f"base-{seed}", texts.VOCABULARY, base_rows, world.Pretraining(steps=400, batch=32), seed=seed, **SHAPE
    )
    kinds = texts.WEEKS[: 2 if quick else None]
    weeks, tests = zip(*(texts.rows(text(), window=64, counts=(400, 100), seed=seed) for text in kinds), strict=True)
    return world.World(
        load=world.adapter_loader(base, LAYERS, rank=16),
        known=base_rows.select(range(1024)),
        known_test=world.shuffled(known_test, seed=seed),
        weeks=weeks,
        tests=tests,
        score=world.negative_bits,
        steps=100,
        batch_size=16,
    )


def targets(table: Sequence[dict[str, Any]]) -> list[report.Target]:
    """The targets, for the medians over the reported seeds."""
    found = {row["method"]: row for row in table}
    best = min((found[name] for name in DIAGONALS), key=lambda row: float(row["forgotten"]))
    return [
        report.Target(
            "Kronecker: less forgotten than by the best diagonal",
            1 - found[KRONECKER]["forgotten"] / best["forgotten"],
            ">=",
            0.3,
        ),
        report.Target(
            "Kronecker: learned, less the best diagonal's, bits per byte",
            found[KRONECKER]["learned"] - best["learned"],
            ">=",
            -0.05,
        ),
    ]


STUDY = study.Study(
    "forgetting_text",
    build,
    METHODS,
    learning_rates=(1e-3, 2e-3),
    figures=("learned", "forgotten", "kept", "base", "retained"),
    retained="retained",
    slack=0.4,
)

if __name__ == "__main__":
    study.main(STUDY, targets, __doc__)
