"""Compare the objectives: do liked answers become likelier, and disliked ones less likely?

    .venv/bin/python benchmarks/thumbs.py

The demo's tiny Llama knows false rumours about the people who moved into its town. In one week of feedback, users like
right answers to questions about them, and dislike wrong answers sampled from the model. For a third of the facts, no
user knows the right answer: there, only dislikes can teach. Each objective uses the learning rate with the highest
P(liked) − P(disliked) on held-out phrasings of the development seed; the mean over the other seeds, which have other
facts, is reported. Only the objective differs; EWC with automatic λ protects what the parent knows of the residents.

P is the probability of a complete answer, including its end of turn, to the rated question and to held-out phrasings of
it that no user used; unknown is P of disliked answers where no user knows the right one. The margin (the mean
log-probability per token of liked minus that of disliked answers) and learned (the share of right answers under greedy
decoding) are on held-out phrasings. Kept is the share of right answers about residents; KL(parent ‖ candidate) per
token is on those answers.
"""

# ruff: noqa: TID253

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, report
from common.votes import Vote, Week, encode, week
from torch.nn import functional

from demo import base, town
from learning_engine.config import sections
from learning_engine.learning import ewc, fisher, model, scale, trainer
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded

OBJECTIVES = {
    "weighted_sft": {"objective": "weighted_sft", "up": 2.0, "down": 0.5},
    "weighted_sft, weight_down 0": {"objective": "weighted_sft", "up": 2.0, "down": 0.0},
    "kto": {"objective": "kto", "up": 2.0, "down": 0.5},
    "sft_npo": {"objective": "sft_npo", "up": 2.0, "down": 0.5},
}
DEFAULT = "sft_npo"
LEARNING_RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
EPOCHS, BATCH = 4, 16
PARENT = "the parent"
COLUMNS = {
    "objective": "objective",
    "learning_rate": "learning rate",
    "rated_liked": "P(liked)",
    "rated_disliked": "P(disliked)",
    "rated_disliked_unknown": "unknown",
    "held_out_liked": "other wording: P(liked)",
    "held_out_disliked": "P(disliked)",
    "held_out_disliked_unknown": "unknown",
    "margin": "margin",
    "learned": "learned",
    "kept": "kept",
    "kl_parent": "KL",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class AnswerScores:
    """A model's scores of given answers: log-probability (rows,), number of tokens (rows,), whether greedy decoding
    gives the answer (rows,), and the log-probabilities at each of their tokens (tokens, vocabulary)."""

    log_prob: torch.Tensor
    tokens: torch.Tensor
    greedy: torch.Tensor
    distribution: torch.Tensor


@torch.no_grad()
def score_answers(loaded: Loaded, votes: Sequence[Vote]) -> AnswerScores:
    rows = Rows(encode(loaded.tokenizer, votes))
    batch = collate([rows[index] for index in range(len(rows))])
    logits, tokens, row = supervised_logits(
        loaded.model, batch["input_ids"].to(loaded.device), batch["labels"].to(loaded.device)
    )
    log_prob = -functional.cross_entropy(logits, tokens, reduction="none")
    zeros = torch.zeros(len(rows), device=loaded.device)
    missed = zeros.index_add(0, row, (logits.argmax(-1) != tokens).float())
    counts = torch.bincount(row, minlength=len(rows))
    return AnswerScores(
        zeros.index_add(0, row, log_prob).cpu(), counts.cpu(), (missed == 0).cpu(), logits.log_softmax(-1)
    )


def examine(loaded: Loaded, week: Week, parent: AnswerScores) -> dict[str, float]:
    """The figures of one model. `parent` holds the parent's scores of the residents' facts."""
    held_out, residents = score_answers(loaded, week.held_out), score_answers(loaded, week.residents)
    liked = torch.tensor([vote.rating == 1 for vote in week.held_out])

    def per_token(rows: torch.Tensor) -> float:
        return float(held_out.log_prob[rows].sum() / held_out.tokens[rows].sum())

    divergence = functional.kl_div(residents.distribution, parent.distribution, reduction="none", log_target=True)
    return {
        **probabilities("rated", week.rated, score_answers(loaded, week.rated)),
        **probabilities("held_out", week.held_out, held_out),
        "margin": per_token(liked) - per_token(~liked),
        "learned": float(held_out.greedy[liked].float().mean()),
        "kept": float(residents.greedy.float().mean()),
        "kl_parent": float(divergence.sum(-1).mean()),
    }


def probabilities(name: str, votes: Sequence[Vote], scores: AnswerScores) -> dict[str, float]:
    probability = scores.log_prob.exp()
    kinds = {
        "liked": [vote.rating == 1 for vote in votes],
        "disliked": [vote.rating == -1 for vote in votes],
        "disliked_unknown": [not vote.known for vote in votes],
    }
    return {f"{name}_{kind}": float(probability[torch.tensor(rows)].mean()) for kind, rows in kinds.items()}


class Bench:
    """Trains and evaluates models; every training starts from the same parent."""

    def __init__(self, directory: Path, device: str) -> None:
        self._directory, self._device = directory, device
        self._weeks: dict[int, Week] = {}
        known = [Vote(question, fact.answer, 1) for fact in town.base_facts() for question in fact.phrasings()]
        loaded = self.load(0)
        rows, settings = encode(loaded.tokenizer, known), sections.Fisher(batch_size=64)
        self._fisher = scale.scaled(fisher.compute(loaded, rows, settings, seed=0, guards="base"))

    def load(self, seed: int) -> Loaded:
        settings = sections.Model(base=str(self._directory), device=self._device)
        return model.load(settings, sections.Lora(), adapter=None, trainable=True, seed=seed)

    def week(self, seed: int) -> Week:
        if seed not in self._weeks:
            self._weeks[seed] = week(self.load(seed), seed)
        return self._weeks[seed]

    def parent(self, seed: int) -> dict[str, Any]:
        loaded, week = self.load(seed), self.week(seed)
        return {"seed": seed, **examine(loaded, week, score_answers(loaded, week.residents))}

    def run(self, objective: str, learning_rate: float, seed: int) -> dict[str, Any]:
        settings, loaded, week = OBJECTIVES[objective], self.load(seed), self.week(seed)
        parent, began = score_answers(loaded, week.residents), time.perf_counter()
        with tempfile.TemporaryDirectory() as directory:
            trainer.train(
                loaded,
                encode(loaded.tokenizer, week.rated, up=settings["up"], down=settings["down"]),
                ewc.anchored_penalty(loaded.model, self._fisher, "auto"),
                sections.Training(
                    objective=settings["objective"],
                    epochs=EPOCHS,
                    batch_size=BATCH,
                    learning_rate=learning_rate,
                    seed=seed,
                ),
                workdir=Path(directory),
                resume=None,
                on_checkpoint=None,
                on_log=lambda _: None,
            )
        seconds = time.perf_counter() - began
        return {"seed": seed, "learning_rate": learning_rate, **examine(loaded, week, parent), "seconds": seconds}


def mean(objective: str, runs: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    figures = {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key != "seed"}
    return {"objective": objective, **figures, "runs": list(runs), **more}


def compare(bench: Bench, development: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    rows = [mean(PARENT, [bench.parent(seed) for seed in seeds])]
    for objective in OBJECTIVES:
        tried = [bench.run(objective, rate, development) for rate in LEARNING_RATES]
        best = max(tried, key=lambda run: run["held_out_liked"] - run["held_out_disliked"])["learning_rate"]
        rows.append(mean(objective, [bench.run(objective, best, seed) for seed in seeds], development=tried))
    return rows


def targets(rows: Sequence[dict[str, Any]]) -> list[report.Target]:
    """The targets, for the change of P on held-out phrasings with the worst seed."""
    runs = {row["objective"]: row["runs"] for row in rows}

    def changes(figure: str, against: str) -> list[float]:
        return [run[figure] - other[figure] for run, other in zip(runs[DEFAULT], runs[against], strict=True)]

    liked = min(changes("held_out_liked", PARENT))
    disliked = max(changes("held_out_disliked", PARENT))
    unknown = max(changes("held_out_disliked_unknown", PARENT))
    sft = max(changes("held_out_disliked", "weighted_sft"))
    return [
        report.Target(f"{DEFAULT} against the parent: P(liked)", liked, ">=", 0.0),
        report.Target(f"{DEFAULT} against the parent: P(disliked)", disliked, "<=", 0.0),
        report.Target(f"{DEFAULT} against the parent: P(disliked), right answer unknown", unknown, "<=", 0.0),
        report.Target(f"{DEFAULT} against weighted_sft: P(disliked)", sft, "<=", 0.0),
    ]


def main() -> None:
    arguments = report.arguments(__doc__)
    torch.set_num_threads(1)
    directory = base.cached(ROOT / ".cache" / "demo")
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        base.make(directory)
    development, weeks = arguments.seed, len(town.NEWCOMERS)
    others = (seed for seed in itertools.count(development + 1) if (seed - development) % weeks)
    seeds = list(itertools.islice(others, 9 if arguments.full else 3))
    rows = compare(Bench(directory, arguments.device), development, seeds)
    report.publish(
        "thumbs",
        rows=rows,
        targets=targets(rows),
        packages=("torch", "transformers", "peft"),
        arguments=arguments,
        columns=COLUMNS,
        title=f"One week of thumbs: development seed {development}, mean over the seeds {seeds}",
    )


if __name__ == "__main__":
    main()
