"""Weekly facts: a small transformer that knows four domains learns four more, one per week, through one LoRA adapter.

    .venv/bin/python benchmarks/forgetting_facts.py

2 layers, d = 64, LoRA of rank 8 on every linear layer. All domains share keys and values, so each week contradicts the
earlier ones. Replay and anchors are 16 rows per domain. The score is the mean final accuracy over all domains.
Writes benchmarks/results/forgetting_facts.json and .png; takes at most 45 minutes on two idle cores.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import report
from forgetting import study, world
from forgetting.domains import Domains
from forgetting.methods import USUAL, Method

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32,
}
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
KRONECKER, REPLAY = "Kronecker", "replay of 16"
STRENGTHS = (30.0, 100.0, 300.0)
METHODS = (
    Method("nothing", lambdas=(0.0,)),
    Method("textbook EWC (diagonal, exact)", "diagonal", lambdas=STRENGTHS),
    Method("batched square (Avalanche)", "batched", lambdas=(1e3, 1e4, 1e5)),
    Method("ΔW diagonal (EWC-LoRA)", "delta", lambdas=STRENGTHS),
    Method(KRONECKER, "kronecker", lambdas=USUAL),
    Method(f"{KRONECKER}, sketched to 1/8 of the bytes", "kronecker_sketched", lambdas=USUAL),
    Method(REPLAY, replay=16, anchors=64, lambdas=(0.0,)),
    Method(f"{KRONECKER} + {REPLAY}", "kronecker", replay=16, anchors=64, lambdas=USUAL),
    Method(f"{KRONECKER} + 64 anchors", "kronecker", anchors=64, lambdas=USUAL),
)


def build(seed: int, quick: bool, folder: Path) -> world.World:
    """The world of `seed`. Its base model is trained once and cached in `folder`."""
    domains, known = Domains(), 4
    each = [domains.rows(domain, 512, seed=seed) for domain in range(domains.domains)]
    base_rows = world.shuffled(each[:known], seed=seed)
    base = world.make_base(
        folder / f"base-{seed}", len(domains.words()), base_rows, world.Pretraining(steps=600), seed=seed, **SHAPE
    )
    weeks = tuple(each[known : known + 2 if quick else None])
    return world.World(
        load=world.adapter_loader(base, LAYERS, rank=8),
        known=base_rows,
        known_test=base_rows.select(range(400)),
        weeks=weeks,
        tests=tuple(week.select(range(100)) for week in weeks),
        score=world.token_accuracy,
        steps=150,
        batch_size=32,
    )


def targets(table: Sequence[dict[str, Any]]) -> list[report.Target]:
    """The targets, for the medians over the reported seeds."""
    score: Callable[[str], float] = {row["method"]: row["overall"] for row in table}.__getitem__
    return [
        report.Target("Kronecker: score", score(KRONECKER), ">=", 0.93),
        report.Target("Kronecker: score above that of replay", score(KRONECKER) - score(REPLAY), ">=", 0.0),
        report.Target("Kronecker + replay: score", score(f"{KRONECKER} + {REPLAY}"), ">=", 0.98),
    ]


STUDY = study.Study(
    "forgetting_facts",
    build,
    METHODS,
    learning_rates=(5e-3, 1e-2),
    figures=("learned", "kept", "base", "overall"),
    retained="overall",
    slack=0.1,
)

if __name__ == "__main__":
    study.main(STUDY, targets, __doc__)
