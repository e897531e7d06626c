"""How well each structure of the Fisher information predicts the KL that a second week causes.

The model learns the demo's first week, and Fisher information is measured on it. Then it learns the second week under
each structure's penalty, at a λ that allows it to learn. The predicted KL is ½ dᵀF d; the measured one is the KL from
the first week's version on its own week. Both are in nats per token, for the whole change and for a hundredth of it,
where only the structure makes the prediction inexact.

    .venv/bin/python benchmarks/curvature.py
"""

# ruff: noqa: TID253

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import ROOT, report
from peers.expand import expanded

from demo import base, chain, lessons, worlds
from demo.exam import share_right
from learning_engine.config import load
from learning_engine.learning import ewc, fisher, model, trainer
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import lora_weights

STRUCTURES = {"diagonal": "diagonal", "K-FAC, usual factors": "expand", "Kronecker, partial traces (ours)": "kronecker"}
LAMBDA = 200.0
DRAWS = 4
SMALL = 0.01


class Weeks:
    """The demo's base model and its first two weeks, with the demo's settings."""

    def __init__(self, work: Path, seed: int) -> None:
        cached = base.cached(ROOT / ".cache" / "demo")
        if not cached.is_dir():
            base.make(cached)
        os.environ["LEARNING_ENGINE_CONFIG"] = str(ROOT / "demo" / "learning-engine.yaml")
        os.environ["LEARNING_ENGINE__MODEL__BASE"] = str(cached)
        self.settings, self.seed, self.work = load(), seed, work
        self.taught = worlds.TOY.weeks(lessons.first_monday(datetime.now(UTC)))[:2]
        self.feedback = work / "feedback.jsonl"
        lessons.write_rows([row for week in self.taught for row in week.rows], self.feedback)

    def load(self) -> Any:
        return model.load(self.settings.model, self.settings.lora, adapter=None, trainable=True, seed=self.seed)

    def rows(self, loaded: Any, week: int) -> Any:
        return chain._examples(self.settings, loaded, self.feedback, self.taught[week].window, self.work)

    def train(self, loaded: Any, week: int, penalty: ewc.Penalty) -> None:
        training = self.settings.training.model_copy(update={"seed": self.seed, "objective": "weighted_sft"})
        training = training.model_copy(update={"learning_rate": 4e-3})
        trainer.train(
            loaded, self.rows(loaded, week), penalty, training,
            workdir=self.work / "trainer", resume=None, on_checkpoint=None, on_log=lambda _: None,
        )  # fmt: skip
        loaded.model.eval()


def measure(weeks: Weeks) -> list[dict[str, Any]]:
    loaded = weeks.load()
    weeks.train(loaded, 0, ewc.Penalty(None, 0.0))
    liked = weeks.rows(loaded, 0).filter(lambda rating: rating > 0, input_columns="rating")
    information = {name: _information(weeks, loaded, liked, kind) for name, kind in STRUCTURES.items()}
    start = _weights(loaded)
    kl = _kl(loaded, liked)
    rows = []
    for name in STRUCTURES:
        _set_weights(loaded, start)
        penalty = ewc.anchored_penalty(loaded.model, information[name], LAMBDA)
        weeks.train(loaded, 1, penalty)
        end = _weights(loaded)
        learned, kept = (share_right(loaded.model, loaded.tokenizer, weeks.taught[week].exam) for week in (1, 0))
        row = {"structure": name, "learned": learned, "kept": kept, "KL measured": kl()}
        row["KL predicted"] = float(penalty.quadratic(loaded.model))
        _set_weights(loaded, {key: start[key] + SMALL * (end[key] - start[key]) for key in start})
        row["measured / predicted, 1 %"] = kl() / float(penalty.quadratic(loaded.model))
        rows.append(row)
    return rows


def _information(weeks: Weeks, loaded: Any, examples: Any, kind: str) -> Any:
    structure = "kronecker" if kind == "expand" else kind
    # Without smoothing, predicted and measured KL are the same quantity.
    settings = weeks.settings.fisher.model_copy(update={"structure": structure, "draws": DRAWS, "smoothing": 0.0})
    with expanded() if kind == "expand" else nullcontext():
        return fisher.compute(loaded, examples, settings, seed=weeks.seed, guards="first")


def _kl(loaded: Any, examples: Any) -> Callable[[], float]:
    """A function that returns the KL from the model as it is now to the model at the time of the call, per supervised
    token of `examples`."""
    rows = Rows(examples)
    batch = collate([rows[index] for index in range(len(rows))])

    @torch.no_grad()
    def log_probabilities() -> torch.Tensor:
        logits, _, _ = supervised_logits(loaded.model, batch["input_ids"], batch["labels"])
        return logits.double().log_softmax(-1)

    before = log_probabilities()
    return lambda: float((before.exp() * (before - log_probabilities())).sum(-1).mean())


def _weights(loaded: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lora_weights(loaded.model).items()}


@torch.no_grad()
def _set_weights(loaded: Any, weights: Mapping[str, torch.Tensor]) -> None:
    for name, weight in lora_weights(loaded.model).items():
        weight.copy_(weights[name])


def main(arguments: argparse.Namespace) -> None:
    seeds = range(arguments.seed, arguments.seed + (5 if arguments.full else 3))
    rows = []
    for seed in seeds:
        with TemporaryDirectory() as work:
            rows += [{"seed": seed, **row} for row in measure(Weeks(Path(work), seed))]

    def median(structure: str, figure: str) -> float:
        values = sorted(row[figure] for row in rows if row["structure"] == structure)
        return float(values[len(values) // 2])

    _, usual, ours = STRUCTURES
    ratio = median(usual, "KL measured") / median(ours, "KL measured")
    report.publish(
        "curvature",
        rows=rows,
        targets=[
            report.Target("week 2 learned with ours, median", median(ours, "learned"), ">=", 0.95),
            report.Target("KL with the usual factors over KL with ours, median", ratio, ">=", 1.0),
        ],
        packages=("torch", "transformers", "peft"),
        arguments=arguments,
        title=f"The second week at λ = {LAMBDA:g}; KL in nats per token on the first week; {DRAWS} draws of labels",
    )


if __name__ == "__main__":
    main(report.arguments(__doc__, gpu=False))
